//! Why a component cannot become a plugin, and why a folder cannot become a cache.

use std::{fmt, io, path::PathBuf};

use chain::{StageError, escape::escape};

/// Each names the thing and the next step.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "it is a core WebAssembly module, not a component: build it with the SDK for \
         wasm32-unknown-unknown and the linker wasm-component-ld"
    )]
    CoreModule,
    #[error("it is not a WebAssembly component: {0}")]
    NotComponent(String),
    #[error(
        "it exports none of {}, {} and {} (it exports: {exports}): build it against wit/plugin@0.1",
        crate::bindings::v0_1::EDITOR,
        crate::bindings::v0_1::FORMATTER,
        crate::bindings::v0_1::HANDLER
    )]
    WrongWorld { exports: String },
    #[error("it exports more than one role ({0}): a plugin has one")]
    SeveralRoles(String),
    #[error(
        "it imports {import}, which this host does not offer: a plugin may import nothing but \
         {}, {} and, in any version 0.2, {}",
        crate::bindings::v0_1::ALERTS,
        crate::bindings::v0_1::STATE,
        crate::http::IMPORTS.join(", ")
    )]
    UnknownImport { import: String },
    #[error(
        "its role is {role}, and it imports {import}, which only a handler may: take those calls \
         out, or make them in a handler"
    )]
    WrongRole { role: &'static str, import: String },
    #[error("it imports {import}, which is not granted: add {grant}")]
    Ungranted { import: String, grant: &'static str },
    #[error("it failed in {entry}: {error}")]
    Failed { entry: &'static str, error: StageError },
    #[error("it refuses its configuration: {}", join(.0))]
    Configuration(Vec<Diagnostic>),
    #[error("its pattern {id} cannot be used: {reason}")]
    Pattern { id: u32, reason: String },
    #[error("a plugin may declare no more than {0}")]
    Labels(String),
    #[error("its guard {index} cannot be used: {reason}")]
    Guard { index: usize, reason: String },
    #[error("no thread can be started for its requests: {0}")]
    Network(io::Error),
    #[error("its exports do not fit wit/plugin@0.1: {0}")]
    Binding(String),
}

/// Each names the path and the next step.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(
        "{} cannot be used: {error}: choose a folder that this user may write to",
        .path.display()
    )]
    Unusable { path: PathBuf, error: io::Error },
    #[error(
        "{} is a symbolic link: remove it, or write the path that it leads to",
        .path.display()
    )]
    Link { path: PathBuf },
    #[error("{} is not a {wanted}: remove it, or choose another folder", .path.display())]
    Kind { path: PathBuf, wanted: &'static str },
    #[error("{} belongs to another user: choose another folder", .path.display())]
    Owner { path: PathBuf },
    #[error(
        "{} is open to other users (its mode is {mode:03o}): remove it, and it is made anew",
        .path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("{} does not hold a key: remove it, and one is made", .path.display())]
    Key { path: PathBuf },
}

/// One thing that a plugin says is wrong with its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Path inside the plugin's own configuration; may be empty.
    pub key: String,
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.key, self.message)
        }
    }
}

/// Problems that are shown, and characters of each: a guest may have a hundred thousand.
const DIAGNOSTICS_MAX: usize = 20;
const DIAGNOSTIC_CHARS_MAX: usize = 300;

fn join(diagnostics: &[Diagnostic]) -> String {
    let shown = diagnostics.iter().take(DIAGNOSTICS_MAX).map(|it| {
        let short: String = it.to_string().chars().take(DIAGNOSTIC_CHARS_MAX).collect();
        // A guest's words must not look like more than one of them.
        escape(&short).into_owned()
    });
    let mut shown: Vec<String> = shown.collect();
    if diagnostics.len() > DIAGNOSTICS_MAX {
        shown.push(format!("and {} more", diagnostics.len() - DIAGNOSTICS_MAX));
    }
    shown.join("; ")
}

/// Wasmtime's own words about a component's bytes or types, on one line; these hold no log content.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(300)
        .collect()
}
