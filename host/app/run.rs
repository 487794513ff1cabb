//! `bucksaw run`: JSON lines from standard input through a chain to standard output, so that the logs of any server can use the
//! plugins.

use std::{
    io::{BufReader, stdin},
    path::Path,
    sync::Arc,
    thread,
    time::Instant,
};

use anyhow::{Result, anyhow};
use chain::{Chain, Clock, Filter, Output, Overflow, Spec, Tools};
use plugin::Runtime;

use crate::{
    assemble, cache, cli,
    clock::SystemClock,
    config::{Config, Problems, suggest},
    env::Vars,
    load::{Invalid, Source},
    plugins::Plugins,
    records::{parse, read_line},
    serve::DRAIN,
};

/// Lines that run through the chain together; see the pipeline's batch.
const BATCH_MAX: usize = 64;

/// Runs until the end of standard input.
///
/// # Errors
/// When the configuration has problems, there is no such chain, or a line could not be written.
pub fn run(args: &cli::Run) -> Result<()> {
    let vars = Vars::load(Path::new("."))?;
    let source = Source::find(&args.file)?;
    let config = source.parse(&vars)?;
    let invalid = |problems| Invalid { name: source.name.clone(), problems };
    let alerts = Arc::new(sink::Webhooks::start(config.alerts.clone())?);
    let runtime = Runtime::new(alerts.clone(), cache::open(&config.log.cache, &vars).ok())?;
    let plugins = Plugins::load(&config, &runtime, &Plugins::default()).map_err(invalid)?;
    let console =
        sink::Console::new(sink::Target::Stdout, sink::Color::Auto, vars.get("NO_COLOR").is_some());
    let output = Output::start("stdout", Filter::default(), Overflow::Block, Box::new(console))?;
    let spec = spec(args, &config, &plugins, &output).map_err(invalid)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let replacer = assemble::replacer(&config.log);
    let tools = Tools { replacer, clock: clock.clone(), stats: Arc::default() };
    let mut chain = Chain::new(&spec, tools);

    let (sender, lines) = std::sync::mpsc::sync_channel(BATCH_MAX);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || read(&sender))?;
    let own: Arc<str> = args.chain.as_str().into();
    while let Ok(first) = lines.recv() {
        let more = lines.try_iter().take(BATCH_MAX - 1);
        let batch = std::iter::once(first).chain(more).map(|it| parse(&it, &own, clock.now()));
        chain.run(batch.collect());
    }
    chain.finish();
    let deadline = Instant::now() + DRAIN;
    let written = output.close(deadline);
    alerts.close(deadline);
    match output.counts() {
        (_, 0) if written => Ok(()),
        (_, lost) => Err(anyhow!("{lost} lines could not be written to standard output")),
    }
}

/// The chain's editors and handlers, with one output: standard output.
fn spec(
    args: &cli::Run,
    config: &Config,
    plugins: &Plugins,
    output: &Arc<Output>,
) -> Result<Spec, Problems> {
    let mut problems = Problems::default();
    let Some(chain) = config.chains.iter().find(|it| it.name == args.chain) else {
        let hint = suggest(&args.chain, config.chains.iter().map(|it| it.name.as_str()));
        problems.add("--chain", format!("no chain named {:?}{hint}", args.chain));
        return Err(problems);
    };
    let of_chain = || config.outputs.iter().find(|it| chain.outputs.contains(&it.name));
    let format = args.format.as_deref().or_else(|| of_chain().map(|it| it.format.as_str()));
    let formatter = format.and_then(|it| plugins.get(it)?.formatter());
    let Some(formatter) = formatter else {
        let wanted = format.unwrap_or_default();
        let hint = suggest(wanted, plugins.formatters());
        problems.add("--format", format!("no formatter named {wanted:?}{hint}"));
        return Err(problems);
    };
    Ok(Spec {
        name: chain.name.as_str().into(),
        editors: chain.edit.iter().filter_map(|it| plugins.get(it)?.editor()).collect(),
        handlers: chain.handle.iter().filter_map(|it| plugins.get(it)?.handler()).collect(),
        outputs: vec![(formatter, vec![output.clone()])],
        shadow: None,
    })
}

/// Reads lines until the end, or until nobody takes them.
fn read(lines: &std::sync::mpsc::SyncSender<Vec<u8>>) {
    let mut input = BufReader::new(stdin().lock());
    loop {
        let mut line = Vec::new();
        match read_line(&mut input, &mut line) {
            Ok(true) if lines.send(line).is_ok() => {}
            _ => return,
        }
    }
}
