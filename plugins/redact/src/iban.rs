//! International bank account numbers: the length of the country, and check digits by ISO 7064 (mod 97).

const MAX: usize = 34;

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
    let mut number = [0; MAX];
    let mut count = 0;
    let mut at = start;
    while count < length {
        let it = *bytes.get(at)?;
        if it.is_ascii_alphanumeric() {
            *number.get_mut(count)? = it.to_ascii_uppercase();
            count += 1;
        } else if !matches!(it, b' ' | b'-') || !bytes.get(at + 1)?.is_ascii_alphanumeric() {
            return None;
        }
        at += 1;
    }
    if bytes.get(at).is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let number = number.get(..length)?;
    let checks = number.get(2..4)?.iter().all(u8::is_ascii_digit) && mod_97(number) == Some(1);
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

/// The remainder of the number with its first four characters last and letters as 10 to 35.
fn mod_97(number: &[u8]) -> Option<u64> {
    /// What it may grow to before it is divided: two more digits fit.
    const LARGE: u64 = u64::MAX / 1000;
    let (head, tail) = number.split_at_checked(4)?;
    let digits = |rest: u64, it: &u8| {
        let rest = if rest > LARGE { rest % 97 } else { rest };
        match it {
            b'0'..=b'9' => rest * 10 + u64::from(it - b'0'),
            _ => rest * 100 + u64::from(it - b'A') + 10,
        }
    };
    Some(head.iter().fold(tail.iter().fold(0, digits), digits) % 97)
}
