//! Does a server stay even under an hour of mixed traffic: memory and open files, the cache's blocks, and one end a request?
//!
//! `cargo bench --bench soak` for one minute; `-- --long` for an hour, `-- --minutes N` for another time, `-- --smoke` for some
//! seconds. The real program serves the demo model, with one thread of arithmetic. Load is on the loopback and ends by itself.

#[path = "soak/ledger.rs"]
mod ledger;
#[path = "support/program.rs"]
mod program;
#[path = "support/smoke.rs"]
mod smoke;
#[path = "soak/traffic.rs"]
mod traffic;
#[path = "soak/watch.rs"]
mod watch;

use std::{
    env,
    error::Error,
    fmt::Display,
    io,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use ledger::{Counts, ENDS, Ledger, Log};
use program::Server;
use traffic::{CLIENTS, Traffic};
use watch::Sample;

/// Few places and little cache: what leaks there is soon missed.
const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
[engine]
model = "demo"
adapters = { demo-ko = "builtin:demo-ko" }
threads = 1
kv_cache_mib = 8
max_num_seqs = 8
queue = 16
[log]
level = "INFO"
cache = "cache"
[plugins.redact]
[plugins.truncate]
[plugins.json]
[outputs.json]
sink = "file"
path = "log.json"
format = "json"
[chains.default]
edit = ["redact", "truncate"]
outputs = ["json"]
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let time = time()?;
    let mut server = Server::start(CONFIG)?;
    let ledger = Ledger::default();
    let mut log = Log::open(server.path("log.json"))?;
    let seen = run(&server, &ledger, &mut log, time)?;
    server.stop()?;
    // The rest of a file that was renamed, the file after it, and that there is no more.
    for _ in 0..3 {
        log.read(&ledger)?;
    }
    report(&seen, &ledger.finish());
    Ok(())
}

/// How long the traffic lasts.
fn time() -> Result<Duration, Box<dyn Error>> {
    if smoke::is_smoke() {
        return Ok(Duration::from_secs(3));
    }
    let arguments: Vec<String> = env::args().collect();
    if arguments.iter().any(|it| it == "--long") {
        return Ok(Duration::from_secs(3600));
    }
    let at = arguments.iter().position(|it| it == "--minutes");
    let minutes = match at {
        Some(at) => arguments.get(at + 1).ok_or("--minutes wants a number")?.parse::<f64>()?,
        None => 1.0,
    };
    Ok(Duration::try_from_secs_f64(minutes * 60.0)?)
}

/// What was seen from outside.
struct Seen {
    samples: Vec<Sample>,
    at_rest: Sample,
    told: String,
    failed: u64,
    stuck: u64,
}

/// Traffic, until time is up or the server is gone.
fn run(server: &Server, ledger: &Ledger, log: &mut Log, time: Duration) -> io::Result<Seen> {
    let traffic = &Traffic::new(server, ledger)?;
    let until = Instant::now() + time;
    let is_over = &AtomicBool::new(false);
    let (samples, at_rest) = thread::scope(|scope| {
        let reader = scope.spawn(|| noted(traffic, read(log, ledger, is_over)));
        let watcher = scope.spawn(|| noted(traffic, samples(traffic, server, time, until)));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|seat| scope.spawn(move || noted(traffic, traffic.clients(seat, until))))
            .collect();
        // All have ended before an error ends the run.
        let clients: Vec<_> = clients.into_iter().map(joined).collect();
        let samples = joined(watcher);
        let at_rest = watch::at_rest(server);
        is_over.store(true, Relaxed);
        let reader = joined(reader);
        clients.into_iter().collect::<io::Result<()>>()?;
        reader?;
        io::Result::Ok((samples?, at_rest?))
    })?;
    Ok(Seen {
        samples,
        at_rest,
        told: traffic.told(),
        failed: traffic.failed.load(Relaxed),
        stuck: traffic.stuck.load(Relaxed),
    })
}

/// Tells the others when one can't go on.
fn noted<T>(traffic: &Traffic<'_>, result: io::Result<T>) -> io::Result<T> {
    if result.is_err() {
        traffic.broken.store(true, Relaxed);
    }
    result
}

fn joined<T>(thread: ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the benchmark panicked")))
}

fn read(log: &mut Log, ledger: &Ledger, is_over: &AtomicBool) -> io::Result<()> {
    while !is_over.load(Relaxed) {
        if !log.read(ledger)? {
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// A look every second, or more often where there are few of them; and a line every tenth of the time.
fn samples(
    traffic: &Traffic<'_>,
    server: &Server,
    time: Duration,
    until: Instant,
) -> io::Result<Vec<Sample>> {
    let every = (time / 400).clamp(Duration::from_millis(50), Duration::from_secs(1));
    let (began, mut samples, mut lines) = (Instant::now(), Vec::new(), 1_u32);
    while Instant::now() < until && !traffic.broken.load(Relaxed) {
        let it = watch::look(server)?;
        samples.push(it);
        if began.elapsed() >= time / 10 * lines {
            lines += 1;
            say(&format!(
                "after {:.0} s: {:.1} MB resident, {} open files, {} jobs, {:.2} of the cache",
                began.elapsed().as_secs_f64(),
                it.resident / 1e6,
                it.files,
                it.jobs,
                it.cache
            ));
        }
        thread::sleep(every);
    }
    Ok(samples)
}

fn report(seen: &Seen, counts: &Counts) {
    say(&format!("requests, and what they were told:\n{}", seen.told.trim_end()));
    let ends: Vec<String> =
        ENDS.iter().zip(counts.ends).map(|(name, count)| format!("{count} x {name}")).collect();
    say(&format!(
        "the log: {} requests sent, {} of them seen by the server, which ended as {}; {} records of no such request, {} lost",
        counts.sent,
        counts.seen,
        ends.join(", "),
        counts.strays,
        seen.at_rest.lost
    ));
    // The first tenth is for what is allocated once.
    let (begin, end) = (watch::tenth(&seen.samples, 1), watch::tenth(&seen.samples, 9));
    let memory = |it: &[Sample]| watch::median(it, |it| it.resident);
    // Connections come and go; what is never closed is in the fewest as well.
    let files = |it: &[Sample]| watch::fewest(it, |it| it.files);
    say(&format!(
        "resident: {:.1} MB in the second tenth of the time, {:.1} MB in the last; open files: {}, {}, at rest {}",
        memory(begin) / 1e6,
        memory(end) / 1e6,
        files(begin),
        files(end),
        seen.at_rest.files
    ));
    ratio("soak.rss-end-vs-begin", format_args!("{:.2}", memory(end) / memory(begin)), "<= 1.1");
    ratio("soak.fds-end-vs-begin", format_args!("{:.2}", files(end) / files(begin)), "<= 1.1");
    // Not rounded: one in a million counts.
    let each = counts.ends.iter().sum::<u64>() as f64 / counts.seen as f64;
    ratio("soak.terminal-records-per-request", each, "<= 1");
    ratio("soak.terminal-records-per-request", each, ">= 1");
    ratio("soak.requests-without-exactly-one-end", counts.odd + counts.strays, "<= 0");
    ratio("soak.requests-stuck", seen.stuck as f64 + seen.at_rest.jobs, "<= 0");
    ratio("soak.cache-in-use-at-rest", seen.at_rest.cache, "<= 0");
    ratio("soak.requests-failed", seen.failed, "<= 0");
}

fn ratio(name: &str, value: impl Display, goal: &str) {
    say(&format!("ratio {name} {value} goal {goal}"));
}

#[expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]
fn say(text: &str) {
    println!("{text}");
}
