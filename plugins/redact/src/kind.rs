//! The kinds of data that are taken out, and their labels.

use serde::Deserialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Email,
    Phone,
    Card,
    Ip,
    Iban,
    Krn,
    Secret,
}

impl Kind {
    /// In the order of their labels: a kind's number is its index here.
    pub const ALL: [Self; 7] =
        [Self::Email, Self::Phone, Self::Card, Self::Ip, Self::Iban, Self::Krn, Self::Secret];

    /// The name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Ip => "ip",
            Self::Iban => "iban",
            Self::Krn => "krn",
            Self::Secret => "secret",
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    pub const ALL: Self = Self(0x7f);

    pub fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | (1 << kind as u8)))
    }
}
