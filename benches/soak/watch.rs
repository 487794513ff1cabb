//! What the server takes and holds, seen from outside.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    thread,
    time::{Duration, Instant},
};

use crate::program::Server;

/// How long what was begun may take to end.
const REST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Bytes in memory.
    pub(crate) resident: f64,
    /// Open files, connections among them.
    pub(crate) files: f64,
    /// Jobs that the engine has, those that wait included.
    pub(crate) jobs: f64,
    /// How much of the cache is in use, from 0 to 1; what is kept for later prompts is free.
    pub(crate) cache: f64,
    /// Records that the log has lost.
    pub(crate) lost: f64,
}

pub(crate) fn look(server: &Server) -> io::Result<Sample> {
    let files = fs::read_dir(format!("{}/fd", server.process()))?.count() as f64;
    let mut stream = server.connect()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let sum = |name: &str| values(&text, name).sum::<f64>();
    Ok(Sample {
        resident: server.resident()? as f64,
        files,
        jobs: sum("vllm:num_requests_running") + sum("vllm:num_requests_waiting"),
        cache: values(&text, "vllm:kv_cache_usage_perc").fold(0.0, f64::max),
        lost: sum("bucksaw_log_records_dropped_total"),
    })
}

/// The values of a metric, whatever its labels are.
fn values<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let is_it = rest.starts_with([' ', '{']);
        rest.rsplit(' ').next().filter(|_| is_it)?.parse().ok()
    })
}

/// Looks until nothing is under way and nothing is held, or for as long as that may take.
pub(crate) fn at_rest(server: &Server) -> io::Result<Sample> {
    let began = Instant::now();
    loop {
        let sample = look(server)?;
        if (sample.jobs == 0.0 && sample.cache == 0.0) || began.elapsed() > REST {
            return Ok(sample);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// One of ten equal parts of the time, counted from 0.
pub(crate) fn tenth(samples: &[Sample], which: usize) -> &[Sample] {
    let at = |which: usize| samples.len() * which / 10;
    &samples[at(which)..at(which + 1)]
}

pub(crate) fn median(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    let mut all: Vec<f64> = samples.iter().map(of).collect();
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn fewest(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    samples.iter().map(of).fold(f64::NAN, f64::min)
}
