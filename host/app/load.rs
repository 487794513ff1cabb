//! Finding and reading the configuration file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    builtin, cli,
    config::{Config, Problems},
    env::Vars,
};

/// The file that is read when none is named.
const FILE: &str = "bucksaw.toml";

/// The text of a configuration, and where it came from.
pub struct Source {
    pub text: String,
    /// For people: a path, or that it is built in.
    pub name: String,
    folder: PathBuf,
    path: Option<PathBuf>,
}

/// A configuration that has problems; it was the user's to write, so the exit code says so.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.name, .problems))]
pub struct Invalid {
    pub name: String,
    pub problems: Problems,
}

fn list(name: &str, problems: &Problems) -> String {
    let count = problems.0.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    let lines: String = problems.0.iter().map(|it| format!("\n  {it}")).collect();
    format!("{name} has {count} {noun}:{lines}")
}

impl Source {
    /// The file that was named, or the one in this folder, or the built-in configuration.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn find(file: &cli::File) -> Result<Self> {
        let path = match &file.config {
            Some(it) => it.clone(),
            None if Path::new(FILE).is_file() => PathBuf::from(FILE),
            None => {
                return Ok(Self {
                    text: builtin::CONFIG.to_owned(),
                    name: "the built-in configuration".to_owned(),
                    folder: PathBuf::from("."),
                    path: None,
                });
            }
        };
        let name = path.display().to_string();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("the configuration {name} cannot be read; --config names a file, and without it bucksaw.toml in this folder or the built-in configuration is taken"))?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { text, name, folder, path: Some(path) })
    }

    /// The file, if it is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// # Errors
    /// [`Invalid`], with every problem.
    pub fn parse(&self, vars: &Vars) -> Result<Config, Invalid> {
        Config::parse(&self.text, &self.folder, vars)
            .map_err(|problems| Invalid { name: self.name.clone(), problems })
    }
}
