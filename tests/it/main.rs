//! The program as its users have it: the real binary, real HTTP, real files, and the guide's own commands.
//!
//! Nothing waits for a fixed time: what has to happen is waited for, and its absence fails after a minute.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends by its panic, in helpers too"
)]

// The alert plugin posts to a webhook, and no content goes with it.
mod alerts;
// Routes, several outputs, levels, colours: what a configuration selects.
mod chains;
// Several answers, forms, tools, probabilities, completions, keys.
mod choices;
// `check`, `run`, the exit codes, and where the log level comes from.
mod cli;
// Answers that are logged while they are made.
mod deltas;
// What comes along with the crates that other services embed.
mod dependencies;
// Vectors of texts.
mod embeddings;
// Given up at any point, out of time, cut off: one terminal record each.
mod endings;
// Whatever a plugin does wrong costs log content at most.
mod faults;
// User text cannot make, end or disguise a line.
mod forgery;
// Other servers answer, and the log is the same.
mod front;
// The guide's sample, byte for byte, and everything that it lists at DEBUG.
mod golden;
// Every analysis command of the guide, run with the real tools.
mod guide_commands;
// Heads that never become a request.
mod heads;
// No canary leaves the chain, whatever becomes of the plugin that redacts.
mod leaks;
// The log changes while the server runs: files, the admin API, rollback, the cache.
mod live;
// The OpenAI API over raw HTTP.
mod openai;
// The specification of the API, and that the server keeps to it.
mod openapi;
// Requests of a handler: granted, redacted, bounded, and beside the log.
mod outbound;
// Pictures that are elsewhere, and must not be inside.
mod remote;
// Two configurations at the same records, offline and before a change.
mod replay;
// The redactor finds in its component what it finds natively.
mod scanner;
// Another chain's work is compared, and never written.
mod shadow;
// SIGTERM under load, SIGHUP, rotation.
mod shutdown;
// Stored completions: over the API and on the disk.
mod stored;
// Starting and stopping the program, and talking to it.
mod support;
// Exactly one terminal record a request, however it ends.
mod terminal;
// `/vision`: right answers, and the limits on images.
mod vision;
