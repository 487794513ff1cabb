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
}

#[derive(Args, Debug, Default)]
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

#[derive(Args, Debug, Default)]
pub struct File {
    /// Configuration file; bucksaw.toml if there is one, else the built-in configuration
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
