//! A plugin's own fixtures: examples that it ships beside its component, and that a host runs before it lets the plugin near a
//! real record. `redact.wasm` has them in `redact.fixtures.jsonl`, one JSON object a line:
//!
//! ```json
//! {"name": "an address", "config": {}, "record": {"message": "to a@b.co"}, "expect": {"message": "to [EMAIL]"}}
//! {"name": "a line", "record": {"event": "log", "message": "x"}, "expect": ["log message=x"]}
//! {"name": "noise", "record": {"message": "ping"}, "expect": "dropped"}
//! ```
//!
//! An editor is expected to leave fields so, to have the record `dropped`, or `withheld`; a formatter to write lines; a handler
//! to take the record. Without `config`, the fixture runs with the one that the plugin is given here.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chain::{Chain, Ellipsis, Released, Replacer, Spec, Tools};
use plugin::{Plugin, Role, Runtime, Settings};
use record::Value;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::records;

/// Examples of one plugin, and the bytes of their file: more is a test suite, not a check at load.
const FIXTURES_MAX: usize = 256;
const FILE_BYTES_MAX: u64 = 1 << 20;
/// All examples of one plugin: a rollback waits for a change that is being tried.
const TIME_MAX: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    name: String,
    config: Option<Map<String, Json>>,
    record: Map<String, Json>,
    #[serde(default)]
    expect: Json,
}

/// Runs what the component at `path` ships, if it ships anything.
///
/// # Errors
/// The fixture that failed and how, without any text of a record.
pub(crate) fn run(
    runtime: &Runtime,
    bytes: &[u8],
    path: &Path,
    settings: &Settings,
) -> Result<(), String> {
    let file = path.with_extension("fixtures.jsonl");
    let Ok(about) = fs::metadata(&file) else { return Ok(()) };
    let name = file.display();
    if about.len() > FILE_BYTES_MAX {
        return Err(format!("{name} has over {FILE_BYTES_MAX} bytes"));
    }
    let text = fs::read_to_string(&file).map_err(|it| format!("{name} cannot be read: {it}"))?;
    let lines = text.lines().enumerate().filter(|(_, it)| !it.trim().is_empty());
    let start = Instant::now();
    for (at, line) in lines.take(FIXTURES_MAX) {
        if start.elapsed() > TIME_MAX {
            return Err(format!("{name} takes over {} seconds", TIME_MAX.as_secs()));
        }
        let line_number = at + 1;
        let fixture: Fixture =
            serde_json::from_str(line).map_err(|it| format!("{name}, line {line_number}: {it}"))?;
        check(runtime, bytes, settings, &fixture).map_err(|problem| {
            format!("its fixture {:?} ({name}, line {line_number}) fails: {problem}", fixture.name)
        })?;
    }
    Ok(())
}

fn check(
    runtime: &Runtime,
    bytes: &[u8],
    settings: &Settings,
    fixture: &Fixture,
) -> Result<(), String> {
    let mut settings = settings.clone();
    if let Some(config) = &fixture.config {
        settings.config = Json::Object(config.clone()).to_string();
    }
    let plugin = Plugin::load(runtime, bytes, settings).map_err(|it| it.to_string())?;
    let released = release(&plugin, fixture);
    match plugin.role() {
        Role::Editor => check_edited(&released, &fixture.expect),
        Role::Formatter => {
            let source = plugin.formatter().ok_or("it is no formatter")?;
            let mut formatter = source.open().map_err(|it| it.to_string())?;
            let formatted = formatter.format(&released).map_err(|it| it.to_string())?;
            let mut start = 0;
            let mut lines = Vec::with_capacity(formatted.lines.len());
            for (_, end) in formatted.lines {
                lines.push(Json::from(formatted.text.get(start..end).unwrap_or_default()));
                start = end;
            }
            let wanted = &fixture.expect;
            let good = *wanted == Json::Array(lines);
            if good { Ok(()) } else { Err("it writes other lines".to_owned()) }
        }
        Role::Handler => {
            let source = plugin.handler().ok_or("it is no handler")?;
            let mut handler = source.open().map_err(|it| it.to_string())?;
            handler.handle(&released).map_err(|it| it.to_string())
        }
    }
}

/// The fixture's record after the plugin, if it is an editor, or as it is.
fn release(plugin: &Plugin, fixture: &Fixture) -> Vec<Released> {
    let spec = Spec {
        name: "fixture".into(),
        editors: plugin.editor().into_iter().collect(),
        handlers: Vec::new(),
        outputs: Vec::new(),
        shadow: None,
    };
    // The same pseudonyms everywhere, so that a fixture can expect them.
    let replacer = Replacer::new(Ellipsis::Korean, b"fixture");
    let tools = Tools { replacer, clock: Arc::new(|| (0, 0)), stats: Arc::default() };
    let line = Json::Object(fixture.record.clone()).to_string();
    let record = records::parse(line.as_bytes(), &"fixture".into(), (0, 0));
    Chain::new(&spec, tools).edit(vec![record])
}

fn check_edited(released: &[Released], expect: &Json) -> Result<(), String> {
    let record = match (released, expect.as_str()) {
        ([], Some("dropped")) => return Ok(()),
        ([], _) => return Err("it drops the record".to_owned()),
        ([it, ..], Some("withheld")) if it.stub.is_some() => return Ok(()),
        ([it, ..], _) => it,
    };
    if let Some(stub) = &record.stub {
        return Err(format!("its answer was not accepted: {}", stub.error));
    }
    let Json::Object(fields) = expect else {
        return Err("expect has to be an object of fields, \"dropped\" or \"withheld\"".to_owned());
    };
    for (name, wanted) in fields {
        let found = match record.get(name) {
            Some(Value::Text(it)) => Json::from(it.as_str()),
            Some(Value::Int(it)) => Json::from(*it),
            Some(Value::Float(it)) => Json::from(*it),
            Some(Value::Bool(it)) => Json::from(*it),
            None => Json::Null,
        };
        if found != *wanted {
            return Err(format!("the field {name:?} comes out otherwise"));
        }
    }
    Ok(())
}
