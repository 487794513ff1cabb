//! What can run. A file becomes a [`Config`] in two steps: [`raw`] reads its form, [`check`] decides what it means; both report
//! every problem that they find, each with its key.

mod check;
mod raw;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use chain::{Ellipsis, Filter, Overflow};
use record::Severity;

pub use self::reader::{Problem, Problems, suggest};
use crate::env::Vars;

/// A configuration without problems of its own. What it names (plugins, files, models) may still be missing.
#[derive(Debug)]
pub struct Config {
    pub server: Server,
    pub engine: Engine,
    pub log: Log,
    pub plugins: Vec<Plugin>,
    pub alerts: Vec<sink::Channel>,
    pub outputs: Vec<Output>,
    pub chains: Vec<Chain>,
    pub routes: Vec<Route>,
}

#[derive(Debug)]
pub struct Server {
    pub listen: SocketAddr,
    pub limits: server::Limits,
    /// How long requests in flight, and then the log, may take to end.
    pub grace: Duration,
}

#[derive(Debug)]
pub struct Engine {
    pub model: Model,
    /// Served name; the model's own when none.
    pub name: Option<String>,
    /// Served name and folder of each adapter.
    pub adapters: Vec<(String, Model)>,
    pub device: engine::DeviceChoice,
    pub threads: usize,
    pub queue: usize,
    pub nvml_library: Option<PathBuf>,
    /// Whether quantized weights become floats when they are loaded; by the file's size when none.
    pub dequantize: Option<bool>,
}

/// Where weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Model {
    /// The demo model inside the program.
    Demo,
    /// The Korean adapter of the demo model.
    DemoKorean,
    Folder(PathBuf),
    Gguf(PathBuf),
    Hub(String),
}

#[derive(Debug)]
pub struct Log {
    pub level: Severity,
    pub ellipsis: Ellipsis,
    pub workers: usize,
    pub queue: usize,
    /// Empty: a random one, so that pseudonyms can be compared within one run only.
    pub pseudonym_key: String,
}

#[derive(Debug)]
pub struct Plugin {
    pub source: Source,
    /// SHA-256 that the component must have, in lower-case hexadecimal.
    pub sha256: Option<String>,
    pub settings: plugin::Settings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One of the components inside the program.
    Builtin(String),
    File(PathBuf),
}

#[derive(Debug)]
pub struct Output {
    pub name: String,
    pub sink: Sink,
    /// Name of a plugin that is a formatter.
    pub format: String,
    pub filter: Filter,
    pub overflow: Overflow,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    Console { target: sink::Target, color: sink::Color },
    File(PathBuf),
}

#[derive(Debug)]
pub struct Chain {
    pub name: String,
    /// Names of plugins.
    pub edit: Vec<String>,
    pub handle: Vec<String>,
    /// Names of outputs.
    pub outputs: Vec<String>,
}

/// What a request must have to take a chain. All that is set must match.
#[derive(Clone, Debug)]
pub struct Route {
    pub path: Option<String>,
    pub model: Option<String>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub chain: String,
}

impl Config {
    /// Reads a configuration. Paths in it are relative to `folder`, the one that the file is in.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn parse(text: &str, folder: &Path, vars: &Vars) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let table = text.parse::<toml::Table>().map_err(|error| {
            // The position is in the text of the error, drawn over several lines.
            Problems(vec![Problem {
                key: String::new(),
                message: error.to_string().trim_end().to_owned(),
            }])
        })?;
        let raw = raw::Raw::read(reader::Reader::new("", table, vars), &mut problems);
        let config = check::check(raw, folder, vars, &mut problems);
        if problems.0.is_empty() { Ok(config) } else { Err(problems) }
    }
}
