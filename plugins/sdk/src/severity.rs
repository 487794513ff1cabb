//! The five levels, and their OpenTelemetry severity numbers.

pub const DEBUG: u32 = 5;
pub const INFO: u32 = 9;
pub const WARNING: u32 = 13;
pub const ERROR: u32 = 17;
pub const CRITICAL: u32 = 21;

/// The names of the five levels, in order.
pub const NAMES: [&str; 5] = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];

/// Which of the five a severity number belongs to: an index into [`NAMES`].
pub fn level(number: u32) -> usize {
    match number {
        ..=8 => 0,
        9..=12 => 1,
        13..=16 => 2,
        17..=20 => 3,
        _ => 4,
    }
}

/// The name that log lines show.
pub fn name(number: u32) -> &'static str {
    match number {
        ..=8 => "DEBUG",
        9..=12 => "INFO",
        13..=16 => "WARNING",
        17..=20 => "ERROR",
        _ => "CRITICAL",
    }
}

/// The number of one of the five names, in any case.
pub fn parse(name: &str) -> Option<u32> {
    let numbers = [DEBUG, INFO, WARNING, ERROR, CRITICAL];
    NAMES.iter().zip(numbers).find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, it)| it)
}
