//! Why a component cannot become a plugin.

use std::fmt;

use chain::StageError;

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
         {offered}",
        offered = crate::bindings::v0_1::ALERTS
    )]
    UnknownImport { import: String },
    #[error("it imports {import}, which is not granted: add {grant}")]
    Ungranted { import: &'static str, grant: &'static str },
    #[error("it failed in {entry}: {error}")]
    Failed { entry: &'static str, error: StageError },
    #[error("it refuses its configuration: {}", join(.0))]
    Configuration(Vec<Diagnostic>),
    #[error("its pattern {id} cannot be used: {reason}")]
    Pattern { id: u32, reason: String },
    #[error("its exports do not fit wit/plugin@0.1: {0}")]
    Binding(String),
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

fn join(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("; ")
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
