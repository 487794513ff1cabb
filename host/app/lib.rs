//! The application: command line, configuration, assembly of the parts, and an orderly end.
//!
//! It is the only crate that knows all the others: `app -> {server, engine, plugin, sink} -> chain -> record`.
//!
//! # Layout
//! - [`cli`]: what may be typed. [`mod@env`]: variables and `.env`. [`load`]: finding the configuration file.
//! - [`config`]: from text to what can run. [`builtin`]: what ships inside the program.
//! - [`assemble`]: from a configuration to running parts.
//! - [`serve`], [`check`], [`run`]: the three commands. [`signals`]: what the operating system may ask for.

pub mod assemble;
pub mod builtin;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
mod digest;
pub mod env;
pub mod load;
pub mod processor;
pub mod run;
pub mod serve;
mod signals;
mod welcome;
