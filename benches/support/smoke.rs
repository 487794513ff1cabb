//! Smoke runs of benchmarks.

/// Whether this is a smoke run, which shows that the benchmark works and measures nothing.
pub(crate) fn is_smoke() -> bool {
    std::env::args().any(|it| it == "--smoke") || std::env::var_os("BENCH_SMOKE").is_some()
}
