//! `bucksaw replay`: the same records through a chain of two configurations, and what comes out otherwise. A change of a running
//! server's log may have to pass it. No output is opened, nothing is posted, and no text of a record is shown.

mod cost;
mod generate;
mod report;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, BufRead, BufReader, Write as _, stdin, stdout},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use chain::{Comparison, Spec, Tools};
use plugin::Runtime;
use record::Record;

use self::{cost::Costs, report::Report};
use crate::{
    assemble, cache, cli,
    config::{Config, Problem, Problems, suggest},
    env::Vars,
    load::{Invalid, Source},
    outputs::Outputs,
    plugins::Plugins,
    records::{parse, read_line},
    revision::Kept,
};

/// Records that run through a chain together: as many as a log worker takes.
const BATCH_MAX: usize = 64;
/// Records that a change has to pass: it waits meanwhile, and with some 20 µs a record in each chain that is seconds.
const REQUIRED_MAX: usize = 100_000;
/// When records were made that do not say it, and where: the same in each run.
const NOW: (i64, i32) = (0, 0);
/// Where a problem is that is in no file.
const TYPED: &str = "the command line";

/// Compares, and prints the report on standard output. The exit code says whether everything came out the same: 0, else 1.
///
/// # Errors
/// [`Invalid`] when a configuration has problems, has no such chain, or there are no records to read.
pub fn replay(args: &cli::Replay) -> Result<ExitCode> {
    let vars = Vars::load(Path::new("."))?;
    let first = find("--config", &args.file)?;
    let second = find("--against", &cli::File { config: Some(args.against.clone()) })?;
    let (config, other) = (first.parse(&vars)?, second.parse(&vars)?);
    let cache = cache::open(&config.log.cache, &vars).ok();
    let runtime = Runtime::new(Arc::new(()), cache)?;
    let kept = prepare(&first.name, config, &runtime, &Plugins::default())?;
    let other = prepare(&second.name, other, &runtime, &kept.plugins)?;
    let sides = [side(&first.name, &kept, &args.chain)?, side(&second.name, &other, &args.chain)?];
    let report = input(args).and_then(|it| compare(&sides, it, args.show)).map_err(|error| {
        let file = args.input.records.as_deref().unwrap_or(Path::new("-")).display();
        invalid(TYPED, "--records", format!("{file} cannot be read: {error}"))
    })?;
    if report.records() == 0 {
        return Err(invalid(TYPED, "--records", "there is no record in it").into());
    }
    let text = report.text(&args.chain, [&first.name, &second.name]);
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read it has gone, and the exit code tells it still.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(error).context("standard output");
        }
        _ => {}
    }
    Ok(if report.is_same() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `log.replay` of the next revision asks for: its records come out of every chain as they do now. A chain that only one of
/// the two has, or that writes nowhere, has nothing to be compared with.
///
/// # Errors
/// A problem for each chain that does otherwise, with numbers, labels and places; or the records cannot be read.
pub(crate) fn require(now: &Kept, next: &Kept) -> Result<(), Problems> {
    let Some(path) = &next.config.log.replay else { return Ok(()) };
    let file = path.display();
    let mut problems = Vec::new();
    for name in names(next).filter(|it| names(now).any(|name| name == *it)) {
        let (Some(first), Some(second)) = (Side::of(now, name), Side::of(next, name)) else {
            continue;
        };
        let report = fs::File::open(path).and_then(|it| {
            let records = lines(BufReader::new(it), name.into()).take(REQUIRED_MAX);
            compare(&[first, second], records, 1)
        });
        let message = match report {
            Ok(it) if it.records() == 0 => format!("{file} has no record: write some into it"),
            Ok(it) if it.is_same() => continue,
            Ok(it) => format!(
                "chain {name:?} with {file}: {}: if this is meant, change the file or remove the key",
                it.sentence()
            ),
            Err(error) => format!("{file} cannot be read: {error}"),
        };
        let problem = Problem { key: "log.replay".to_owned(), message };
        // What is wrong with the file is said once, not for each chain.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// One of two chains.
struct Side {
    spec: Spec,
    tools: Tools,
}

impl Side {
    /// None when there is no such chain.
    fn of(kept: &Kept, chain: &str) -> Option<Self> {
        let config = &kept.config;
        let chain = config.chains.iter().find(|it| it.name == chain)?;
        let tools = Tools {
            replacer: assemble::replacer(&config.log),
            clock: Arc::new(|| NOW),
            stats: Arc::default(),
        };
        Some(Self { spec: assemble::spec(chain, config, &kept.plugins, &kept.outputs), tools })
    }
}

/// Runs all records through both, and keeps the first `show` differences.
fn compare(
    sides: &[Side; 2],
    mut records: impl Iterator<Item = io::Result<Record>>,
    show: usize,
) -> io::Result<Report> {
    let [first, second] = sides;
    let mut comparison =
        Comparison::new((&first.spec, first.tools.clone()), (&second.spec, second.tools.clone()));
    let mut costs = [first, second].map(|it| Costs::new(&it.spec, it.tools.stats.clone()));
    let mut report = Report::new(show);
    loop {
        let batch: Vec<Record> = records.by_ref().take(BATCH_MAX).collect::<io::Result<_>>()?;
        let size = batch.len();
        if size > 0 {
            let differences = comparison.run(batch.clone());
            costs.iter_mut().for_each(|it| it.add(size));
            for (record, difference) in batch.iter().zip(&differences) {
                report.add(record, difference.as_ref());
            }
        }
        // Standard input is not asked again after its end.
        if size < BATCH_MAX {
            report.costs = costs.map(|it| it.quantiles());
            return Ok(report);
        }
    }
}

/// What records come out of: any iterator of them that may fail.
type Input = Box<dyn Iterator<Item = io::Result<Record>>>;

fn input(args: &cli::Replay) -> io::Result<Input> {
    let chain: Arc<str> = args.chain.as_str().into();
    let input: Input = match (&args.input.records, args.input.generate) {
        (Some(path), _) if path.as_os_str() == "-" => Box::new(lines(stdin().lock(), chain)),
        (Some(path), _) => Box::new(lines(BufReader::new(fs::File::open(path)?), chain)),
        (None, count) => {
            let records = generate::records(count.unwrap_or_default(), args.seed, chain);
            Box::new(records.map(io::Result::Ok))
        }
    };
    Ok(input)
}

/// A record for each line.
fn lines(mut input: impl BufRead, chain: Arc<str>) -> impl Iterator<Item = io::Result<Record>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match read_line(&mut input, &mut line) {
            Ok(more) => more.then(|| Ok(parse(&line, &chain, NOW))),
            Err(error) => Some(Err(error)),
        }
    })
}

fn find(option: &str, file: &cli::File) -> Result<Source, Invalid> {
    Source::find(file).map_err(|error| invalid(TYPED, option, format!("{error:#}")))
}

/// Loads the plugins of a configuration, `before` those of the other one, and opens nothing.
fn prepare(name: &str, config: Config, runtime: &Runtime, before: &Plugins) -> Result<Kept> {
    let plugins = Plugins::load(&config, runtime, before)
        .map_err(|problems| Invalid { name: name.to_owned(), problems })?;
    let outputs = Outputs::discarding(&config)?;
    let alerts = Arc::new(sink::Webhooks::start(Vec::new())?);
    Ok(Kept::new(config, plugins, outputs, alerts))
}

fn side(name: &str, kept: &Kept, chain: &str) -> Result<Side, Invalid> {
    Side::of(kept, chain).ok_or_else(|| {
        let hint = suggest(chain, kept.config.chains.iter().map(|it| it.name.as_str()));
        invalid(name, "--chain", format!("no chain named {chain:?}{hint}"))
    })
}

/// Names of the chains that write somewhere.
fn names(kept: &Kept) -> impl Iterator<Item = &str> {
    kept.config.chains.iter().filter(|it| !it.outputs.is_empty()).map(|it| it.name.as_str())
}

fn invalid(name: &str, key: &str, message: impl Into<String>) -> Invalid {
    let problem = Problem { key: key.to_owned(), message: message.into() };
    Invalid { name: name.to_owned(), problems: Problems(vec![problem]) }
}
