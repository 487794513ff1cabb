//! International bank account numbers: the length of the country, and check digits by ISO 7064 (mod 97).

/// The country and the check digits.
const HEAD: usize = 4;

/// Countries and the length of their numbers, four bytes each, in the order of the alphabet.
const COUNTRIES: &[u8] = b"\
    AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20EG29\
    ES24FI18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20\
    LB28LC32LI21LT20LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24\
    PL28PS29PT25QA29RO24RS22RU33SA24SC31SE24SI19SK24SM27ST25SV28TL23TN24TR26UA29XK20\
";

/// For each letter, and for what comes after Z: how many countries come before the first that begins with it.
const BEFORE: [usize; 27] = {
    let entries = COUNTRIES.as_chunks::<4>().0;
    let mut before = [entries.len(); 27];
    let mut at = entries.len();
    let mut letter = 26;
    while letter > 0 {
        letter -= 1;
        while at > 0 && entries[at - 1][0] >= b'A' + letter as u8 {
            at -= 1;
        }
        before[letter] = at;
    }
    before
};

/// The number whose check digits stand here.
pub fn find(bytes: &[u8], digits: usize) -> Option<(usize, usize)> {
    let start = digits.checked_sub(2)?;
    if start > 0 && bytes.get(start - 1)?.is_ascii_alphanumeric() {
        return None;
    }
    let length = length(bytes.get(start..digits)?)?;
    // The first four characters count last.
    let mut head = [0; HEAD];
    let mut rest = Rest(0);
    let mut count = 0;
    let mut at = start;
    while count < length {
        let it = *bytes.get(at)?;
        if it.is_ascii_alphanumeric() {
            match head.get_mut(count) {
                Some(of_head) => *of_head = it,
                None => rest.push(it),
            }
            count += 1;
        } else if !matches!(it, b' ' | b'-') || !bytes.get(at + 1)?.is_ascii_alphanumeric() {
            return None;
        }
        at += 1;
    }
    if bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    head.iter().for_each(|it| rest.push(*it));
    let checks = head.iter().skip(2).all(u8::is_ascii_digit) && rest.0 % 97 == 1;
    checks.then_some((start, at))
}

/// The codes of the countries.
pub(crate) fn countries() -> impl Iterator<Item = &'static str> {
    let entries = COUNTRIES.as_chunks::<4>().0;
    entries.iter().filter_map(|it| std::str::from_utf8(it.get(..2)?).ok())
}

fn length(country: &[u8]) -> Option<usize> {
    let [first, second] = country.first_chunk()?.map(|it: u8| it.to_ascii_uppercase());
    let letter = usize::from(first.checked_sub(b'A')?);
    let entries =
        COUNTRIES.as_chunks::<4>().0.get(*BEFORE.get(letter)?..*BEFORE.get(letter + 1)?)?;
    let [_, _, tens, ones] = entries.iter().find(|it| it[1] == second)?;
    Some(usize::from(tens - b'0') * 10 + usize::from(ones - b'0'))
}

/// A number whose remainder by 97 is asked for, with letters as 10 to 35.
struct Rest(u64);

impl Rest {
    /// What it may grow to before it is divided: two more digits fit.
    const LARGE: u64 = u64::MAX / 1000;

    /// Writes a letter or a digit behind it.
    fn push(&mut self, it: u8) {
        let rest = if self.0 > Self::LARGE { self.0 % 97 } else { self.0 };
        self.0 = match it {
            b'0'..=b'9' => rest * 10 + u64::from(it - b'0'),
            _ => rest * 100 + u64::from(it.to_ascii_uppercase() - b'A') + 10,
        };
    }
}
