//! One table for people, and the lines for scripts.

use std::fmt::Write;

use crate::{
    corpus::Case,
    peer::{Contender, Goal},
};

/// The contender that the others are held against.
const OURS: &str = "bucksaw";
const NAME_WIDTH: usize = 18;
const WIDTH: usize = 9;

/// Microseconds of each peer for a record of each case, and what is to be said about it.
pub fn table(contenders: &[Contender], cases: &[Case], records: usize) {
    println!("Processor time in µs a record; the best of several turns, {records} records each.\n");
    let (mut sizes, mut variants) = (" ".repeat(NAME_WIDTH), " ".repeat(NAME_WIDTH));
    for case in cases {
        // Writing to a String cannot fail.
        let _ = write!(sizes, "{:>WIDTH$}", format!("{} B", case.bytes));
        let _ = write!(variants, "{:>WIDTH$}", case.variant.name());
    }
    println!("{sizes}\n{variants}");
    for contender in contenders {
        let mut line = format!("{:<NAME_WIDTH$}", contender.name);
        for case in cases {
            let figure = contender.best.get(case).map(|it| micros(it.as_secs_f64() * 1e6));
            let _ = write!(line, "{:>WIDTH$}", figure.unwrap_or_else(|| "-".to_owned()));
        }
        match &contender.peer {
            Err(reason) if contender.best.is_empty() => {
                println!("{:<NAME_WIDTH$}not available: {reason}", contender.name);
            }
            _ => println!("{line}"),
        }
    }
    println!();
    for contender in contenders.iter().filter(|it| it.planted > 0) {
        println!("{:<NAME_WIDTH$}{}", contender.name, remarks(contender));
    }
    println!();
}

/// `ratio NAME VALUE goal OP TARGET`, for every figure that has a goal.
pub fn ratios(contenders: &[Contender], cases: &[Case]) {
    let Some(ours) = contenders.iter().find(|it| it.name == OURS) else { return };
    for contender in contenders {
        for case in cases {
            let (Some(a), Some(b)) = (ours.best.get(case), contender.best.get(case)) else {
                continue;
            };
            let (name, of) = (contender.name, format!("{}-{}", case.bytes, case.variant.name()));
            let (ours_by_theirs, theirs_by_ours) = (a.div_duration_f64(*b), b.div_duration_f64(*a));
            match contender.goal {
                Goal::None => {}
                Goal::Sandboxed => {
                    println!("ratio peers-{name}-vs-{OURS}-{of} {theirs_by_ours:.2} goal >= 3");
                }
                Goal::Host => {
                    println!("ratio peers-{name}-vs-{OURS}-{of} {theirs_by_ours:.2} goal >= 1.0");
                }
                Goal::Native => {
                    println!("ratio {OURS}-vs-{name}-{of} {ours_by_theirs:.2} goal <= 1.0");
                }
            }
        }
    }
}

/// Three digits are more than these figures are good for.
fn micros(it: f64) -> String {
    match it {
        ..10.0 => format!("{it:.2}"),
        10.0..1000.0 => format!("{it:.1}"),
        _ => format!("{it:.0}"),
    }
}

fn remarks(contender: &Contender) -> String {
    let mut text = match contender.left {
        0 => format!("removes all {} values", contender.planted),
        left => format!("LEAVES {left} OF {} VALUES", contender.planted),
    };
    if contender.changed > 0 {
        let _ = write!(text, "; changes {} texts without any", contender.changed);
    }
    if let Err(reason) = &contender.peer {
        let _ = write!(text, "; failed: {reason}");
    }
    if !contender.remark.is_empty() {
        let _ = write!(text, "; {}", contender.remark);
    }
    text
}
