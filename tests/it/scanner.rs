//! The redactor's component takes out what the same code takes out natively. In the component it reads texts by vectors, which
//! the tests of its crate never see.

use std::{fs, sync::Arc};

use chain::{Chain, Ellipsis, Replacer, Spec, Tools};
use plugin::{Grants, Limits, Plugin, Runtime, Settings};
use record::{Field, Record, Severity, Stream, Value, field};
use redact::{Kind, Kinds};
use serde_json::json;

use crate::support::repository;

const TEXTS: usize = 4_000;
const PIECES_MAX: usize = 60;
/// Values of every kind, values that are almost some, and what stands around them.
const PIECES: &[&str] = &[
    "kim@example.com",
    "@",
    "010-1234-5678",
    "+82 10 1234 5678",
    "(555) 123-4567",
    "4111 1111 1111 1111",
    "4111111111111112",
    "3782-822463-10005",
    "192.168.0.1",
    "1.12.3",
    "fe80::1",
    "12:30:45",
    "DE89370400440532013000",
    "GB82 WEST 1234 5698 7654 32",
    "900101-1234567",
    "9001011234567",
    "sk-abcDEF0123456789abcdef",
    "AKIAIOSFODNN7EXAMPLE",
    "Bearer abc.def-012345",
    "password=hunter2",
    "비밀번호: qwer1234!",
    "０１０－１２３４－５６７８",
    "이미지에는",
    "👩‍💻",
    "a",
    "_",
    " ",
    ", ",
    "\n",
    "2026",
    "0.7",
    "https://example.org/docs?page=2",
    "the model answers a question about the office",
];

/// Numerical Recipes' linear congruential generator: enough to mix texts, and the same everywhere.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

fn record(text: &str) -> Record {
    Record {
        time: 0,
        utc_offset: 0,
        severity: Severity::INFO,
        event: "request.prompt".into(),
        stream: Stream::App,
        context: None,
        seq: 0,
        stub: None,
        fields: vec![Field::new(field::PROMPT_TEXT, text)],
    }
}

/// What the code makes of a text here.
fn natively(text: &str, kinds: Kinds) -> String {
    let mut found = Vec::new();
    redact::scan(text, kinds, &mut found);
    let (mut out, mut at) = (String::new(), 0);
    for it in found {
        out.push_str(&text[at..it.start]);
        out.push_str(&format!("[{}]", it.kind.name().to_ascii_uppercase()));
        at = it.end;
    }
    out + &text[at..]
}

fn check(kinds: &[Kind]) {
    let names: Vec<&str> = kinds.iter().map(|it| it.name()).collect();
    let settings = Settings {
        name: "redact".to_owned(),
        config: json!({"kinds": names}).to_string(),
        limits: Limits::default(),
        grants: Grants::default(),
    };
    let bytes = fs::read(repository("plugins/components/redact.wasm")).unwrap();
    let runtime = Runtime::new(Arc::new(()), None).unwrap();
    let plugin = Plugin::load(&runtime, &bytes, settings).unwrap();
    let spec = Spec {
        name: "test".into(),
        editors: plugin.editor().into_iter().collect(),
        handlers: vec![],
        outputs: vec![],
        shadow: None,
    };
    let replacer = Replacer::new(Ellipsis::Korean, b"key");
    let tools = Tools { replacer, clock: Arc::new(|| (0, 0)), stats: Arc::default() };
    let mut chain = Chain::new(&spec, tools);

    let mut random = Lcg(2026);
    let mut piece = || PIECES[random.below(PIECES.len())];
    let texts: Vec<String> =
        (0..TEXTS).map(|it| (0..it % PIECES_MAX).map(|_| piece()).collect()).collect();
    for texts in texts.chunks(64) {
        let released = chain.edit(texts.iter().map(|it| record(it)).collect());
        assert_eq!(released.len(), texts.len());
        for (text, released) in texts.iter().zip(&released) {
            let expected = natively(text, kinds.iter().copied().collect());
            let found = match released.get(field::PROMPT_TEXT) {
                Some(Value::Text(it)) => it.as_str(),
                other => panic!("{other:?} of {text:?}: {:?}", released.stub),
            };
            assert_eq!(found, expected, "of {text:?} with {names:?}");
        }
    }
}

#[test]
fn a_component_takes_out_what_the_same_code_takes_out_natively() {
    check(&Kind::ALL);
    check(&[Kind::Email, Kind::Card, Kind::Krn, Kind::Ip, Kind::Iban]);
    check(&[Kind::Phone]);
}
