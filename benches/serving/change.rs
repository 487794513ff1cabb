//! A plugin is dropped in while an answer is streamed: compiling it must not take the processors from those that make tokens. By default
//! arithmetic leaves one core to the rest; with a thread on each core the longest gap is three times as long.

use std::{fs, io, path::Path, thread, time::Duration};

use bucksaw::builtin;

use crate::{Outcome, Work, body, program::Server, ratio, say};

/// How long a plugin may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// The longest gap between tokens with a change, by that without.
pub(crate) fn measure(model: &Path, work: &Work) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let plugin = folder.path().join("mine.wasm");
    fs::write(&plugin, component(0)?)?;
    let mut server = Server::start(&config(model, &plugin))?;
    let tokens = work.tokens * 3;
    server.stream("/v1/completions", &body(tokens, 0))?;

    let before = revisions(&server)?;
    let (mut quiet, mut changed) = (Duration::MAX, Duration::MAX);
    for round in 1..=work.rounds.div_ceil(2) {
        let streamed = server.stream("/v1/completions", &body(tokens, round))?;
        quiet = quiet.min(streamed.longest_gap);
        let streamed = server.stream_with("/v1/completions", &body(tokens, round), |pieces| {
            if pieces == 2 { drop_in(&plugin, round) } else { Ok(()) }
        })?;
        changed = changed.min(streamed.longest_gap);
        if revisions(&server)? < before + round && work.rounds > 1 {
            return Err("the plugin came after the stream: nothing was measured".into());
        }
        wait_for(&server, before + round)?;
    }
    let millis = |it: Duration| it.as_secs_f64() * 1e3;
    say(&format!(
        "longest gap in a stream: {:.1} ms at rest, {:.1} ms while a plugin is dropped in",
        millis(quiet),
        millis(changed)
    ));
    ratio("longest-gap-while-a-plugin-comes-over-at-rest", changed.div_duration_f64(quiet), "<= 2");
    server.stop()
}

fn config(model: &Path, plugin: &Path) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[engine]\nmodel = {:?}\n\
         [log]\ncache = \"cache\"\n\
         [plugins.mine]\nsource = {:?}\n[plugins.json]\n\
         [outputs.json]\nsink = \"file\"\npath = \"log.json\"\nformat = \"json\"\n\
         [chains.default]\nedit = [\"mine\"]\noutputs = [\"json\"]\n",
        model.display().to_string(),
        plugin.display().to_string(),
    )
}

/// `redact` under another digest: a custom section more. So it is compiled, and does what it did.
fn component(version: usize) -> Outcome<Vec<u8>> {
    let mut bytes = builtin::plugin("redact").ok_or("no built-in plugin redact")?.to_vec();
    let name = version.to_string();
    let length = u8::try_from(name.len())?;
    bytes.extend([0, length + 1, length]);
    bytes.extend(name.bytes());
    Ok(bytes)
}

/// In one step, as a deployment should.
fn drop_in(plugin: &Path, version: usize) -> io::Result<()> {
    let aside = plugin.with_extension("new");
    fs::write(&aside, component(version).map_err(|it| io::Error::other(it.to_string()))?)?;
    fs::rename(aside, plugin)
}

/// Changes that have come into force.
fn revisions(server: &Server) -> io::Result<usize> {
    let log = fs::read_to_string(server.path("log.json"))?;
    Ok(log.matches("\"event_name\":\"chain.revised\"").count())
}

fn wait_for(server: &Server, wanted: usize) -> Outcome<()> {
    let polls = IN_FORCE.as_millis() / POLL.as_millis();
    for _ in 0..polls {
        if revisions(server)? >= wanted {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    Err("the plugin did not come into force".into())
}
