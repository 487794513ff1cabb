//! How many threads the arithmetic of a CPU uses.
//!
//! candle has no call for it: it reads environment variables, at every product and when it first builds its pools. So
//! the program sets them for itself before it starts any thread, or starts itself again with them; this module only
//! says which.

use std::{env, num::NonZeroUsize, thread};

use crate::device;

/// All cores but one, which is left to the network and the logs; at least 1. On one thread too many candle's pool for
/// quantized weights spins against everything else in the process and is ten times slower.
pub fn recommended_threads() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get).saturating_sub(1).max(1)
}

/// The environment variables that make candle use `threads` threads (0: [`recommended_threads`]), without those that
/// are set already.
pub fn thread_variables(threads: usize) -> Vec<(&'static str, String)> {
    let threads = if threads == 0 { recommended_threads() } else { threads };
    device::THREAD_VARIABLES
        .into_iter()
        .filter(|name| env::var_os(name).is_none())
        .map(|name| (name, threads.to_string()))
        .collect()
}
