//! Reading a TOML table key by key, so that every problem in a file is found in one pass: wrong types, variables that are not
//! set, and whatever is left over, which nobody asked for.

use std::{collections::BTreeSet, fmt};

use toml::{Table, Value};

use crate::env::Vars;

/// One thing wrong with a configuration: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key: `chains.default.edit[1]`. Empty for the file as a whole.
    pub key: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.key, self.message)
        }
    }
}

/// All problems of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds a problem, unless there is one of this key: what follows from the first misleads.
    pub fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        let (key, message) = (key.into(), message.into());
        if self.0.iter().all(|it| it.key != key) {
            self.0.push(Problem { key, message });
        }
    }

    /// Whether there is a problem of this key, or of one inside it.
    pub(super) fn concern(&self, key: &str) -> bool {
        let inside = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        self.0.iter().any(|it| it.key.strip_prefix(key).is_some_and(inside))
    }
}

/// The name among `known` that somebody who wrote `wrong` may have meant, as the end of a sentence.
pub fn suggest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known
        .iter()
        .map(|it| (strsim::damerau_levenshtein(wrong, it), *it))
        .filter(|(distance, it)| *distance <= 1 + it.len() / 3)
        .min();
    match near {
        Some((_, it)) => format!("; did you mean {it:?}?"),
        None if known.is_empty() => String::new(),
        None => format!("; known: {}", known.join(", ")),
    }
}

/// One table of the file.
pub(super) struct Reader<'a> {
    path: String,
    table: Table,
    asked: BTreeSet<&'static str>,
    vars: &'a Vars,
}

impl<'a> Reader<'a> {
    pub(super) fn new(path: impl Into<String>, table: Table, vars: &'a Vars) -> Self {
        Self { path: path.into(), table, asked: BTreeSet::new(), vars }
    }

    /// The path of a key in this table.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(super) fn text(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        match self.take(name)? {
            Value::String(it) => self.expand(name, &it, problems),
            other => self.wrong(name, "a string", &other, problems),
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
        problems: &mut Problems,
    ) -> Option<u64> {
        match self.take(name)? {
            Value::Integer(it) if range.contains(&it) => u64::try_from(it).ok(),
            Value::Integer(it) => {
                let (low, high) = (range.start(), range.end());
                problems.add(self.key(name), format!("{it} is not between {low} and {high}"));
                None
            }
            other => self.wrong(name, "a whole number", &other, problems),
        }
    }

    /// A number over 0 and up to 1, whole or not: a part of something.
    pub(super) fn share(&mut self, name: &'static str, problems: &mut Problems) -> Option<f64> {
        let number = match self.take(name)? {
            Value::Float(it) => it,
            Value::Integer(it) => it as f64,
            other => return self.wrong(name, "a number", &other, problems),
        };
        if number > 0.0 && number <= 1.0 {
            return Some(number);
        }
        let message = format!("{number} is not a share: write a number over 0 and up to 1");
        problems.add(self.key(name), message);
        None
    }

    pub(super) fn flag(&mut self, name: &'static str, problems: &mut Problems) -> Option<bool> {
        match self.take(name)? {
            Value::Boolean(it) => Some(it),
            other => self.wrong(name, "true or false", &other, problems),
        }
    }

    pub(super) fn texts(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Option<Vec<String>> {
        let items = match self.take(name)? {
            Value::Array(it) => it,
            other => return self.wrong(name, "a list of strings", &other, problems),
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                // One that cannot be read keeps its place, so that later ones are called by theirs.
                Value::String(it) => texts.push(self.expand(name, &it, problems).unwrap_or(it)),
                other => {
                    let key = format!("{}[{index}]", self.key(name));
                    problems.add(key, format!("expected a string, found {}", kind(&other)));
                }
            }
        }
        Some(texts)
    }

    /// A string, or a list of them.
    pub(super) fn text_or_texts(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Option<Vec<String>> {
        if matches!(self.table.get(name), Some(Value::Array(_))) {
            return self.texts(name, problems);
        }
        self.text(name, problems).map(|it| vec![it])
    }

    /// A table inside this one; empty when it is not there.
    pub(super) fn table(&mut self, name: &'static str, problems: &mut Problems) -> Reader<'a> {
        self.optional_table(name, problems)
            .unwrap_or_else(|| Reader::new(self.key(name), Table::new(), self.vars))
    }

    /// A table inside this one that means something by being there.
    pub(super) fn optional_table(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Option<Reader<'a>> {
        match self.take(name)? {
            Value::Table(it) => Some(Reader::new(self.key(name), it, self.vars)),
            other => self.wrong(name, "a table", &other, problems),
        }
    }

    /// The tables of a table, by name: `[plugins.redact]`.
    pub(super) fn tables(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Vec<(String, Reader<'a>)> {
        let outer = self.table(name, problems);
        let mut tables = Vec::with_capacity(outer.table.len());
        for (inner, value) in outer.table {
            let key = format!("{}.{inner}", outer.path);
            match value {
                Value::Table(it) => tables.push((inner, Reader::new(key, it, self.vars))),
                other => problems.add(key, format!("expected a table, found {}", kind(&other))),
            }
        }
        tables
    }

    /// An array of tables: `[[route]]`.
    pub(super) fn array(&mut self, name: &'static str, problems: &mut Problems) -> Vec<Reader<'a>> {
        let items = match self.take(name) {
            Some(Value::Array(it)) => it,
            None => return Vec::new(),
            Some(other) => {
                return self
                    .wrong(name, "tables, each [[…]]", &other, problems)
                    .unwrap_or_default();
            }
        };
        let mut tables = Vec::with_capacity(items.len());
        for (index, value) in items.into_iter().enumerate() {
            let key = format!("{}[{index}]", self.key(name));
            match value {
                Value::Table(it) => tables.push(Reader::new(key, it, self.vars)),
                other => problems.add(key, format!("expected a table, found {}", kind(&other))),
            }
        }
        tables
    }

    /// A table whose keys are the user's own and whose values are strings: `header = { "x-tenant" = "acme" }`.
    pub(super) fn map(
        &mut self,
        name: &'static str,
        problems: &mut Problems,
    ) -> Vec<(String, String)> {
        let reader = self.table(name, problems);
        let mut map = Vec::with_capacity(reader.table.len());
        for (key, value) in &reader.table {
            match value {
                Value::String(it) => {
                    map.extend(reader.expand(key, it, problems).map(|it| (key.clone(), it)));
                }
                other => {
                    problems
                        .add(reader.key(key), format!("expected a string, found {}", kind(other)));
                }
            }
        }
        map
    }

    /// Whatever is there, as JSON: a plugin's own configuration.
    pub(super) fn json(&mut self, name: &'static str, problems: &mut Problems) -> Option<String> {
        let value = self.take(name)?;
        if !value.is_table() {
            return self.wrong(name, "a table", &value, problems);
        }
        match serde_json::to_string(&value) {
            Ok(it) => Some(it),
            Err(error) => {
                problems.add(self.key(name), format!("it cannot be given as JSON: {error}"));
                None
            }
        }
    }

    /// Says what nobody asked for.
    pub(super) fn finish(self, problems: &mut Problems) {
        for name in self.table.keys() {
            let hint = suggest(name, self.asked.iter().copied());
            problems.add(self.key(name), format!("unknown key{hint}"));
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.asked.insert(name);
        self.table.remove(name)
    }

    fn wrong<T>(
        &self,
        name: &str,
        wanted: &str,
        found: &Value,
        problems: &mut Problems,
    ) -> Option<T> {
        problems.add(self.key(name), format!("expected {wanted}, found {}", kind(found)));
        None
    }

    /// Puts variables in: `${NAME}`, or `${NAME:-what to use when it is not set}`.
    fn expand(&self, name: &str, text: &str, problems: &mut Problems) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((variable, after)) = after.split_once('}') else {
                problems.add(self.key(name), "a ${ has no }");
                return None;
            };
            let (variable, default) = match variable.split_once(":-") {
                Some((variable, default)) => (variable, Some(default)),
                None => (variable, None),
            };
            match self.vars.get(variable).or(default) {
                Some(it) => out.push_str(it),
                None => {
                    let message = format!(
                        "the variable {variable} is not set: set it in the environment or in .env, or write ${{{variable}:-default}}"
                    );
                    problems.add(self.key(name), message);
                    return None;
                }
            }
            rest = after;
        }
        out.push_str(rest);
        Some(out)
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
