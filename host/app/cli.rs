//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// An inference server whose logs are programmable.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a model over HTTP (what happens without a command)
    Serve(Serve),
    /// Say everything that is wrong with a configuration
    Check(Check),
    /// Run JSON lines from standard input through a chain, to standard output
    Run(Run),
    /// Run records through a chain of two configurations, and say what comes out otherwise
    Replay(Replay),
    /// Make a running server read its configuration and plugins again
    Reload(Operate),
    /// Take a running server's log back to the revision before
    Rollback(Operate),
    /// Show a running server's log: its revision, chains and plugins
    State(Operate),
    /// Set the level of a running server's log, of all of it or of a part
    Level(Level),
}

#[derive(Args, Clone, Debug, Default)]
pub struct Serve {
    #[command(flatten)]
    pub file: File,
    /// Address to listen on, instead of the configured one
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// Model to serve, instead of the configured one: a folder, a .gguf file, a hub id, or `demo`
    #[arg(long)]
    pub model: Option<String>,
}

#[derive(Args, Debug)]
pub struct Check {
    #[command(flatten)]
    pub file: File,
}

#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    pub file: File,
    /// Chain whose editors and handlers the records run through
    #[arg(long, default_value = "default")]
    pub chain: String,
    /// Plugin that formats them; the first output's of the chain when not given
    #[arg(long)]
    pub format: Option<String>,
}

#[derive(Args, Debug)]
pub struct Replay {
    #[command(flatten)]
    pub file: File,
    /// The other configuration
    #[arg(long, value_name = "FILE")]
    pub against: PathBuf,
    /// Chain that the records run through, of this name in both configurations
    #[arg(long, default_value = "default")]
    pub chain: String,
    #[command(flatten)]
    pub input: Input,
    /// Number that the made-up records follow from: the same one, the same records
    #[arg(long, value_name = "S", default_value_t = 0, requires = "generate")]
    pub seed: u64,
    /// Differences that are shown at most; all are counted
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub show: usize,
}

/// Where records come from.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Input {
    /// JSON lines to run through both, such as a log; - for standard input
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// Run so many made-up records of requests through both
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub generate: Option<u64>,
}

/// What is asked of a running server, at the admin address of its configuration.
#[derive(Args, Debug)]
pub struct Operate {
    #[command(flatten)]
    pub file: File,
}

/// A level for as long as the server runs, or until it is set again.
#[derive(Args, Debug)]
pub struct Level {
    #[command(flatten)]
    pub file: File,
    /// DEBUG, INFO, WARNING, ERROR or CRITICAL
    #[arg(required_unless_present = "reset", conflicts_with = "reset")]
    pub level: Option<String>,
    /// Take back what was set: the configured level is in force again
    #[arg(long)]
    pub reset: bool,
    /// Of this stream only: app or engine
    #[arg(long, conflicts_with = "header")]
    pub stream: Option<String>,
    /// Of requests only that come with this header
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub header: Option<(String, String)>,
}

fn name_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Args, Clone, Debug, Default)]
pub struct File {
    /// Configuration file; bucksaw.toml if there is one, else the built-in configuration
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
