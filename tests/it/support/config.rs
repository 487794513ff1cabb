//! A configuration file, put together from what a test wants to say.

use std::fmt::Write as _;

/// Only what is named is in it: each plugin costs a third of a second to compile.
#[derive(Clone, Default)]
pub(crate) struct Config {
    server: String,
    engine: String,
    log: String,
    plugins: Vec<(String, String)>,
    edit: Vec<String>,
    handle: Vec<String>,
    outputs: Vec<(String, String)>,
    chain: String,
    more: String,
}

impl Config {
    /// The guide's log: redacted and cut, on the console and in `app.log` and `engine.log`.
    pub(crate) fn guide() -> Self {
        Self::default()
            .edit(&["redact", "truncate"])
            .output("console", "sink = \"console\"\nformat = \"guide\"")
            .file("app", "guide", "stream = \"app\"")
            .file("engine", "guide", "stream = \"engine\"")
    }

    /// Every record as JSON in `json.log`, and no editor.
    pub(crate) fn json() -> Self {
        Self::default().file("json", "json", "")
    }

    pub(crate) fn server(mut self, lines: &str) -> Self {
        let _ = writeln!(self.server, "{lines}");
        self
    }

    pub(crate) fn engine(mut self, lines: &str) -> Self {
        let _ = writeln!(self.engine, "{lines}");
        self
    }

    /// The demo model with its Korean adapter.
    pub(crate) fn with_adapter(self) -> Self {
        self.engine("adapters = { demo-ko = \"builtin:demo-ko\" }")
    }

    pub(crate) fn log(mut self, lines: &str) -> Self {
        let _ = writeln!(self.log, "{lines}");
        self
    }

    /// Adds a plugin, or says more of one.
    pub(crate) fn plugin(mut self, name: &str, lines: &str) -> Self {
        match self.plugins.iter_mut().find(|(it, _)| it == name) {
            Some((_, known)) => {
                let _ = writeln!(known, "{lines}");
            }
            None => self.plugins.push((name.to_owned(), format!("{lines}\n"))),
        }
        self
    }

    /// The editors of the default chain, in place of those that it had.
    pub(crate) fn edit(mut self, names: &[&str]) -> Self {
        self.edit = names.iter().map(|it| (*it).to_owned()).collect();
        names.iter().fold(self, |config, it| config.plugin(it, ""))
    }

    pub(crate) fn handle(mut self, name: &str) -> Self {
        self.handle.push(name.to_owned());
        self.plugin(name, "")
    }

    /// More of the default chain.
    pub(crate) fn chain(mut self, lines: &str) -> Self {
        let _ = writeln!(self.chain, "{lines}");
        self
    }

    /// An output of the default chain.
    pub(crate) fn output(mut self, name: &str, lines: &str) -> Self {
        self.outputs.push((name.to_owned(), lines.to_owned()));
        ["guide", "json"]
            .iter()
            .filter(|it| lines.contains(&format!("format = \"{it}\"")))
            .fold(self, |config, it| config.plugin(it, ""))
    }

    /// An output of the default chain into the file `NAME.log`.
    pub(crate) fn file(self, name: &str, format: &str, lines: &str) -> Self {
        let path =
            format!("sink = \"file\"\npath = \"{name}.log\"\nformat = \"{format}\"\n{lines}");
        self.output(name, &path)
    }

    /// Whole tables, at the end of the file.
    pub(crate) fn more(mut self, lines: &str) -> Self {
        let _ = writeln!(self.more, "{lines}");
        self
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut table = |name: &str, lines: &str| {
            let _ = writeln!(text, "[{name}]\n{lines}");
        };
        table("server", &format!("listen = \"127.0.0.1:0\"\n{}", self.server));
        table("engine", &self.engine);
        table("log", &self.log);
        for (name, lines) in &self.plugins {
            table(&format!("plugins.{name}"), lines);
        }
        for (name, lines) in &self.outputs {
            table(&format!("outputs.{name}"), lines);
        }
        let outputs: Vec<&String> = self.outputs.iter().map(|(name, _)| name).collect();
        // Rust writes lists of plain strings as TOML does.
        let (edit, handle) = (&self.edit, &self.handle);
        // Most tests look at content that nobody took out.
        let raw = !edit.iter().any(|it| it == "redact");
        table(
            "chains.default",
            &format!(
                "edit = {edit:?}\nhandle = {handle:?}\noutputs = {outputs:?}\nallow_raw_content = {raw}\n{}",
                self.chain
            ),
        );
        text + &self.more
    }
}
