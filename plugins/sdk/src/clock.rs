//! Dates out of counted seconds: a guest has no clock and no time zones, the host sends both with each record.

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// `2025-01-09T14:30:25` with this byte between date and time.
pub type Stamp = [u8; 19];

/// Seconds since 1970 on a clock that is `offset` seconds east of UTC.
pub fn local_seconds(nanos: i64, offset: i32) -> i64 {
    nanos.div_euclid(NANOS) + i64::from(offset)
}

/// The nanoseconds within the second.
pub fn subsecond(nanos: i64) -> u32 {
    nanos.rem_euclid(NANOS) as u32
}

/// `YYYY-MM-DD`, the separator, `HH:MM:SS`. The proleptic Gregorian calendar; a year has its last four digits.
pub fn stamp(seconds: i64, separator: u8) -> Stamp {
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let time = seconds.rem_euclid(DAY) as u32;
    let mut out = *b"0000-00-00 00:00:00";
    out[10] = separator;
    let year = year.rem_euclid(10_000) as u32;
    two(&mut out, 0, year / 100);
    two(&mut out, 2, year % 100);
    two(&mut out, 5, month);
    two(&mut out, 8, day);
    two(&mut out, 11, time / 3600);
    two(&mut out, 14, time / 60 % 60);
    two(&mut out, 17, time % 60);
    out
}

/// Appends a stamp.
pub fn push_stamp(out: &mut String, stamp: &Stamp) {
    // A stamp is ASCII; the check is short and never fails.
    out.push_str(std::str::from_utf8(stamp).unwrap_or_default());
}

/// Appends a number in decimal, with zeros in front up to `width` digits.
pub fn push_padded(out: &mut String, number: u32, width: usize) {
    let mut digits = [b'0'; 10];
    let mut rest = number;
    let mut at = digits.len();
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let from = at.min(digits.len().saturating_sub(width));
    out.push_str(std::str::from_utf8(&digits[from..]).unwrap_or_default());
}

fn two(out: &mut Stamp, at: usize, number: u32) {
    out[at] = b'0' + (number / 10) as u8;
    out[at + 1] = b'0' + (number % 10) as u8;
}

/// Year, month and day of a number of days since 1970-01-01. Years are counted from March, so that the leap day comes last,
/// and in eras of 400 years, after which the calendar repeats.
fn civil(days: i64) -> (i64, u32, u32) {
    let from_march_0 = days + 719_468;
    let era = from_march_0.div_euclid(146_097);
    let day_of_era = from_march_0.rem_euclid(146_097);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, months have 31, 30, 31, 30, 31 days, again and again: 153 days in five.
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}
