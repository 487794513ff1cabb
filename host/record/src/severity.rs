//! The five levels of the log, with the severity numbers of the OpenTelemetry log data model.
//! (`tracing` has no CRITICAL, so a record carries its own level.)

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// OpenTelemetry severity number, 1 to 24; ordered by weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Severity(u8);

impl Severity {
    pub const DEBUG: Self = Self(5);
    pub const INFO: Self = Self(9);
    pub const WARNING: Self = Self(13);
    pub const ERROR: Self = Self(17);
    pub const CRITICAL: Self = Self(21);

    /// The five levels that a configuration may name.
    pub const ALL: [Self; 5] =
        [Self::DEBUG, Self::INFO, Self::WARNING, Self::ERROR, Self::CRITICAL];

    /// A severity from its OpenTelemetry number; anything outside 1 to 24 becomes the nearest end.
    pub fn from_number(number: u8) -> Self {
        Self(number.clamp(1, 24))
    }

    pub fn number(self) -> u8 {
        self.0
    }

    /// The name that log lines show: the range of numbers that the OpenTelemetry model gives each name.
    pub fn name(self) -> &'static str {
        match self.0 {
            ..=8 => "DEBUG",
            9..=12 => "INFO",
            13..=16 => "WARNING",
            17..=20 => "ERROR",
            _ => "CRITICAL",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct ParseSeverityError(String);

impl fmt::Display for ParseSeverityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a log level: write DEBUG, INFO, WARNING, ERROR or CRITICAL", self.0)
    }
}

impl std::error::Error for ParseSeverityError {}

impl FromStr for Severity {
    type Err = ParseSeverityError;

    /// Reads one of the five names, in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|it| it.name().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| ParseSeverityError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_in_any_case() {
        for it in Severity::ALL {
            assert_eq!(it.name().to_lowercase().parse(), Ok(it));
        }
        let error = "verbose".parse::<Severity>().unwrap_err().to_string();
        assert!(Severity::ALL.iter().all(|it| error.contains(it.name())), "{error}");
    }
}
