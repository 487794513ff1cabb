//! Vector's remap language: a compiled script over an event, in the process.

use std::borrow::Cow;

use anyhow::{Context, Result, anyhow};
use rules::RULES;
use vrl::{
    compiler::{Program, TargetValue, TimeZone, runtime::Runtime},
    diagnostic::Formatter,
    value::{ObjectMap, Secrets, Value},
};

use crate::{corpus::Input, peer::Peer};

pub struct Vrl {
    program: Program,
    runtime: Runtime,
    timezone: TimeZone,
    events: Vec<TargetValue>,
}

impl Vrl {
    pub fn peer() -> Result<Box<dyn Peer>> {
        let filters: Vec<String> = RULES.iter().map(|it| format!("r'{}'", it.pattern)).collect();
        let source = format!(".text = redact!(.text, filters: [{}])", filters.join(", "));
        let compiled = vrl::compiler::compile(&source, &vrl::stdlib::all())
            .map_err(|it| anyhow!("{}", Formatter::new(&source, it)))?;
        Ok(Box::new(Self {
            program: compiled.program,
            runtime: Runtime::default(),
            timezone: TimeZone::default(),
            events: Vec::new(),
        }))
    }
}

impl Peer for Vrl {
    fn redact<'a>(&'a mut self, records: &'a [Input]) -> Result<Vec<Cow<'a, str>>> {
        self.events.clear();
        for record in records {
            let mut event = event(&record.text);
            let result = self.runtime.resolve(&mut event, &self.program, &self.timezone);
            result.map_err(|it| anyhow!("{it}"))?;
            self.runtime.clear();
            self.events.push(event);
        }
        self.events.iter().map(text).collect()
    }
}

fn event(text: &str) -> TargetValue {
    let fields = ObjectMap::from([("text".into(), Value::from(text))]);
    TargetValue {
        value: Value::Object(fields),
        metadata: Value::Object(ObjectMap::new()),
        secrets: Secrets::default(),
    }
}

fn text(event: &TargetValue) -> Result<Cow<'_, str>> {
    let text = event.value.as_object().and_then(|it| it.get("text")).and_then(Value::as_str);
    text.context("no text")
}
