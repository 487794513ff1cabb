//! The application: command line, configuration, assembly of the parts, and an orderly end.
//!
//! It is the only crate that knows all the others: `app -> {server, engine, plugin, sink} -> chain -> record`.
//!
//! # Layout
//! - [`cli`]: what may be typed. [`mod@env`]: variables and `.env`. [`load`]: finding the configuration file.
//! - [`config`]: from text to what can run. [`builtin`]: what ships inside the program.
//! - [`plugins`], [`outputs`], [`route`], [`assemble`]: from a configuration to chains; [`fixtures`]: a plugin's own examples.
//! - [`revision`], [`live`], [`watch`], [`levels`]: the log of a running server, and its change.
//! - [`serve`], [`check`], [`run`], [`replay`], [`operate`]: the commands. [`records`]: lines of any log as records.
//! - `behind`: an engine here, or upstreams elsewhere. [`stored`]: the store between server and chains.
//! - [`control`], [`metrics`]: what an operator sees. [`signals`]: what the operating system may ask for.

pub mod assemble;
mod behind;
pub mod builtin;
pub mod cache;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
mod digest;
pub mod env;
mod fixtures;
pub mod levels;
pub mod live;
pub mod load;
pub mod metrics;
pub mod operate;
pub mod outputs;
pub mod plugins;
pub mod processor;
pub mod records;
pub mod replay;
pub mod revision;
pub mod route;
pub mod run;
pub mod serve;
mod signals;
pub mod stored;
pub mod watch;
mod welcome;
