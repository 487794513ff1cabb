//! What can run. A file becomes a [`Config`] in two steps: [`raw`] reads its form, [`check`] decides what it means; both report
//! every problem that they find, each with its key. [`change`] compares two of them.

mod change;
mod check;
mod raw;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use chain::{Ellipsis, Filter, Overflow};
use record::Severity;

pub use self::reader::{Problem, Problems, suggest};
use crate::env::Vars;

/// The chain of every request that no route matches, and of what belongs to no request.
pub const DEFAULT_CHAIN: &str = "default";

/// A configuration without problems of its own. What it names (plugins, files, models) may still be missing.
#[derive(Debug)]
pub struct Config {
    pub server: Server,
    pub engine: Engine,
    /// The servers that answer in place of the engine; none: the engine does.
    pub upstreams: Option<upstream::Config>,
    pub log: Log,
    /// None: there is no such address.
    pub admin: Option<Admin>,
    /// None: nothing is stored.
    pub store: Option<Store>,
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
    /// Name in lower case of the header that says whose request it is.
    pub tenant_header: String,
    /// Other names for the model; `*` stands for every name.
    pub served_model_names: Vec<String>,
    /// Who may use the API; with none, everybody may.
    pub api_keys: Vec<server::Key>,
    /// Whether what the model cannot do is ignored rather than refused.
    pub ignore_unsupported: bool,
    pub base64_embeddings: bool,
    /// Whether the API loads adapters from folders of this machine.
    pub runtime_adapters: bool,
}

#[derive(Debug)]
pub struct Engine {
    pub model: Model,
    /// Served name; the model's own when none.
    pub name: Option<String>,
    /// Served name and folder of each adapter.
    pub adapters: Vec<(String, Model)>,
    /// One at least; an engine runs on each.
    pub devices: Vec<engine::DeviceChoice>,
    pub dtype: engine::DtypeChoice,
    pub threads: usize,
    /// Jobs that wait at each engine.
    pub queue: usize,
    /// Jobs that move on in one step, tokens of one step, tokens of one image, and bytes for keys and values, of each engine; its own
    /// choice when none.
    pub max_num_seqs: Option<usize>,
    pub max_num_batched_tokens: Option<usize>,
    pub image_tokens: Option<usize>,
    pub kv_cache_bytes: Option<usize>,
    /// How much of a GPU's memory an engine may use; the engine's own choice when none.
    pub gpu_memory_utilization: Option<f64>,
    pub prefix_caching: bool,
    /// Whether a request for an adapter that is not served gets the model alone.
    pub adapter_fallback: bool,
    pub nvml_library: Option<PathBuf>,
    /// Whether quantized weights become floats when they are loaded; by the file's size when none.
    pub dequantize: bool,
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
    /// Names of editors that every chain starts with. They are in [`Chain::edit`] already.
    pub always: Vec<String>,
    /// Whether the log follows changes of this file and of the plugins' files.
    pub watch: bool,
    pub cache: CacheFolder,
    /// Records for which editors may fail before a change is taken back; 0: never.
    pub rollback_after: u64,
    /// Records that a change has to run through without a difference before it is taken over.
    pub replay: Option<PathBuf>,
    /// Whether answers that are streamed are logged piece by piece as well.
    pub response_deltas: bool,
}

/// Where compiled components are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheFolder {
    /// Where the program would put it.
    Default,
    /// Nowhere: every start compiles.
    Off,
    At(PathBuf),
}

/// The address for those who run the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    pub listen: SocketAddr,
    /// At least 16 characters of printable ASCII. It is a secret, so it is never repeated.
    pub key: String,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// Where completions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub path: PathBuf,
    /// Whether all chat completions are, and not only those of requests that ask for it.
    pub all: bool,
    /// The chain that they run through; none: that of their request.
    pub chain: Option<String>,
    pub max_age: Duration,
    pub max_bytes: u64,
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

#[derive(Clone, Debug)]
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

#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    pub name: String,
    /// Names of all editors in the order in which they run: those of [`Log::always`], then the chain's own.
    pub edit: Vec<String>,
    /// What the chain itself names, as it stands in the file: for the key of a problem.
    pub own_edit: Vec<String>,
    /// Names of plugins.
    pub handle: Vec<String>,
    /// Names of outputs.
    pub outputs: Vec<String>,
    /// Said aloud: content may reach the outputs although no editor takes any out.
    pub allow_raw_content: bool,
    pub shadow: Option<Shadow>,
}

/// A chain that sees another's records to be compared with it, and writes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    pub chain: String,
    /// Part of a log worker's time that it may take, over 0 and up to 1.
    pub share: f64,
}

/// What a request must have to take a chain. All that is set must match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    pub path: Option<String>,
    pub model: Option<String>,
    /// Name of one of [`Engine::adapters`].
    pub adapter: Option<String>,
    /// Value of the header [`Server::tenant_header`].
    pub tenant: Option<String>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Matches while [`Log::level`] is this one or a more detailed one.
    pub level: Option<Severity>,
    /// Part of all requests, over 0 and up to 1.
    pub sample: Option<f64>,
    pub chain: String,
}

impl Config {
    /// Reads a configuration. Paths in it are relative to `folder`, the one that the file is in.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn parse(text: &str, folder: &Path, vars: &Vars) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let table =
            text.parse::<toml::Table>().map_err(|error| Problems(vec![syntax(text, &error)]))?;
        let raw = raw::Raw::read(reader::Reader::new("", table, vars), &mut problems);
        let config = check::check(raw, folder, vars, &mut problems);
        if problems.0.is_empty() { Ok(config) } else { Err(problems) }
    }
}

/// Where the text is no TOML. The line itself is not shown: it may hold a secret, and what is said here is also said in the log.
fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    let at = error.span().map_or(0, |it| it.start.min(text.len()));
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
    Problem {
        key: String::new(),
        message: format!("line {line}, column {column}: {}", error.message()),
    }
}
