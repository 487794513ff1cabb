//! What a person sees when the server starts and when it ends, on standard error, beside the log.

use std::{
    io::{Write, stderr},
    net::SocketAddr,
    path::Path,
};

use crate::{
    behind::Behind,
    check::describe,
    config::{Config, Model, Sink},
};

/// Says what is served, how it is logged, and what to try.
pub(crate) fn welcome(config: &Config, behind: &Behind, address: SocketAddr) {
    let mut text = format!("\n  bucksaw {}\n\n", env!("CARGO_PKG_VERSION"));
    text += &behind.welcome(config);
    text += &format!("  log level  {}\n", config.log.level);
    for chain in &config.chains {
        text += &format!("  chain      {}\n", describe(chain));
    }
    for output in &config.outputs {
        if let Sink::File(path) = &output.sink {
            text += &format!("  log file   {} ({})\n", path.display(), output.name);
        }
    }
    for chain in config.chains.iter().filter(|it| it.allow_raw_content) {
        text += &format!(
            "  warning    chain {} may write content as it is (allow_raw_content)\n",
            chain.name
        );
    }
    if let Some(it) = &config.store {
        let which =
            if it.all { "all chat completions" } else { "chat completions that ask for it" };
        text += &format!("  store      {} ({which})\n", it.path.display());
    }
    if let Some(it) = &config.admin {
        text += &format!("  admin      http://{} (with the key)\n", it.listen);
    }
    text += &format!("  listening  http://{address}\n\n");
    text += &try_this(config, address);
    say(&text);
}

/// A picture of the project, for a server that was started in its folder.
const PICTURE: &str = "examples/demo-model/pictures/three-red-circles.png";

/// A request that works as it stands.
fn try_this(config: &Config, address: SocketAddr) -> String {
    let is_demo = config.upstreams.is_none() && config.engine.model == Model::Demo;
    if is_demo && Path::new(PICTURE).is_file() {
        return format!(
            "  Ask about a picture:\n\n    curl -s 'http://{address}/vision?prompt=What%20is%20in%20the%20image%3F' \\\n      \
             -H 'content-type: image/png' --data-binary @{PICTURE}\n\n"
        );
    }
    format!(
        "  Try:\n\n    curl -s http://{address}/v1/chat/completions -H 'content-type: application/json' \\\n      \
         -d '{{\"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}], \"max_tokens\": 64}}'\n\n"
    )
}

/// Says that the store was not done in time.
pub(crate) fn unfinished_store(counts: store::Counts) {
    say(&format!(
        "  store      the deadline came before everything was written ({} completions are)\n",
        counts.stored
    ));
}

/// Says what became of the log.
pub(crate) fn farewell(drained: chain::Drained) {
    let chain::Drained { in_time, accepted, dropped, lost_lines } = drained;
    if accepted + dropped == 0 {
        return;
    }
    if drained.is_complete() {
        return say(&format!("  log        {accepted} records, all written\n"));
    }
    let late = if in_time { "" } else { ", and the deadline came before everything was written" };
    say(&format!(
        "  log        {accepted} records, {dropped} dropped, {lost_lines} lines lost{late}\n"
    ));
}

fn say(text: &str) {
    // Nobody may be reading; the log is the record of what happened.
    let _ = stderr().lock().write_all(text.as_bytes());
}
