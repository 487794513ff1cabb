//! `bucksaw`: an inference server whose logs are programmable.

use std::process::ExitCode;

use bucksaw::{
    check,
    cli::{Cli, Command, Serve},
    load::Invalid,
    operate, processor, replay, run, serve,
};
use clap::Parser;

/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    if let Err(missing) = processor::check() {
        complain(&missing);
        return ExitCode::FAILURE;
    }
    let command = Cli::parse().command.unwrap_or(Command::Serve(Serve::default()));
    let done = |()| ExitCode::SUCCESS;
    let result = match command {
        Command::Serve(it) => serve::serve(&it).map(done),
        Command::Check(it) => check::check(&it).map(done),
        Command::Run(it) => run::run(&it).map(done),
        Command::Replay(it) => replay::replay(&it),
        Command::Reload(it) => operate::reload(&it).map(done),
        Command::Rollback(it) => operate::rollback(&it).map(done),
        Command::State(it) => operate::state(&it).map(done),
        Command::Level(it) => operate::level(&it).map(done),
    };
    match result {
        Ok(code) => code,
        // Whoever read our output has gone; there is nobody left to tell.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            let of_config = error.downcast_ref::<Invalid>().is_some();
            if of_config { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

#[expect(clippy::print_stderr, reason = "the one place where the program speaks for itself")]
fn complain(message: &str) {
    eprintln!("bucksaw: {message}");
}
