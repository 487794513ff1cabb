//! Bucksaw's own editor `redact` in a chain: the component that ships, in its sandbox, or the same code compiled natively.

#[path = "../../../support/native.rs"]
mod native;

use std::{borrow::Cow, marker::PhantomData, sync::Arc};

use anyhow::{Context, Result, bail};
use chain::{Chain, Editor, Ellipsis, Released, Replacer, Source, Spec, Tools};
use plugin::{Grants, Limits, Plugin, Runtime, Settings};
use record::{Field, Record, Severity, Stream, Value, event, field};

use crate::{corpus::Input, peer::Peer};

const COMPONENT: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/components/redact.wasm"));
/// The five kinds that all peers have.
const CONFIG: &str = r#"{"kinds": ["email", "card", "krn", "ip", "iban"]}"#;

struct Bucksaw {
    chain: Chain,
    batch: usize,
    released: Vec<Released>,
    _runtime: Option<Runtime>,
}

/// As the server runs it.
pub fn component(batch: usize) -> Result<Box<dyn Peer>> {
    let runtime = Runtime::new(Arc::new(()), None)?;
    let settings = Settings {
        name: "redact".to_owned(),
        config: CONFIG.to_owned(),
        limits: Limits::default(),
        grants: Grants::default(),
    };
    let plugin = Plugin::load(&runtime, COMPONENT, settings)?;
    let editor = plugin.editor().context("redact is no editor")?;
    Ok(Bucksaw::peer(editor, batch, Some(runtime)))
}

/// Without WebAssembly.
pub fn native(batch: usize) -> Result<Box<dyn Peer>> {
    let editor = native::Opens::<redact::Redact>(CONFIG, PhantomData);
    Ok(Bucksaw::peer(Arc::new(editor), batch, None))
}

impl Bucksaw {
    fn peer(
        editor: Arc<dyn Source<dyn Editor>>,
        batch: usize,
        runtime: Option<Runtime>,
    ) -> Box<dyn Peer> {
        let spec = Spec {
            name: "peers".into(),
            editors: vec![editor],
            handlers: vec![],
            outputs: vec![],
            shadow: None,
        };
        let tools = Tools {
            replacer: Replacer::new(Ellipsis::English, b"key"),
            clock: Arc::new(|| (0, 0)),
            stats: Arc::default(),
        };
        let chain = Chain::new(&spec, tools);
        Box::new(Self { chain, batch, released: Vec::new(), _runtime: runtime })
    }
}

impl Peer for Bucksaw {
    fn redact<'a>(&'a mut self, records: &'a [Input]) -> Result<Vec<Cow<'a, str>>> {
        self.released.clear();
        for batch in records.chunks(self.batch) {
            let batch = batch.iter().map(record).collect();
            self.released.extend(self.chain.edit(batch));
        }
        self.released.iter().map(text).collect()
    }
}

fn record(input: &Input) -> Record {
    Record {
        time: 0,
        utc_offset: 0,
        severity: Severity::INFO,
        event: event::REQUEST_PROMPT.into(),
        stream: Stream::App,
        context: None,
        seq: 0,
        stub: None,
        fields: vec![Field::new(field::PROMPT_TEXT, input.text.as_str())],
    }
}

fn text(released: &Released) -> Result<Cow<'_, str>> {
    match (released.get(field::PROMPT_TEXT), &released.stub) {
        (Some(Value::Text(text)), _) => Ok(Cow::Borrowed(text.as_str())),
        (_, Some(stub)) => bail!("withheld: {}", stub.error),
        _ => bail!("no text"),
    }
}
