//! Timing two ways of doing one thing, turn by turn, so that whatever else the machine does falls on both.

use std::{hint::black_box, time::Instant};

/// The shortest of several turns of each, in seconds. `prepare` is not timed.
pub(crate) fn best<T, A, B>(
    rounds: usize,
    mut prepare: impl FnMut() -> T,
    mut a: impl FnMut(T) -> A,
    mut b: impl FnMut(T) -> B,
) -> (f64, f64) {
    let mut shortest = (f64::INFINITY, f64::INFINITY);
    for _ in 0..rounds {
        let input = prepare();
        let start = Instant::now();
        black_box(a(input));
        shortest.0 = shortest.0.min(start.elapsed().as_secs_f64());
        let input = prepare();
        let start = Instant::now();
        black_box(b(input));
        shortest.1 = shortest.1.min(start.elapsed().as_secs_f64());
    }
    shortest
}

/// One figure, for people and for scripts.
#[expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]
pub(crate) fn report(name: &str, (ours, theirs): (f64, f64), items: usize, goal: Option<&str>) {
    let each = |seconds: f64| seconds * 1e9 / items as f64;
    let (a, b, ratio) = (each(ours), each(theirs), ours / theirs);
    match goal {
        None => println!("{name}: {a:.0} ns against {b:.0} ns, {ratio:.2} times"),
        Some(goal) => {
            println!("{name}: {a:.0} ns against {b:.0} ns");
            println!("ratio {name} {ratio:.2} goal {goal}");
        }
    }
}
