use serde::Deserialize;

use crate::{
    Alerts, Batch, Description, Diagnostic, Editor, Edits, Formatter, Handler, Instance, Lines,
    NoConfig, Plugin, RecordView, Records, Setup, StateError, ValueRef, Verdict, clock, config,
    native::{self, BatchBuilder},
    severity, state,
};

fn sample() -> Batch {
    BatchBuilder::new()
        .record("request.prompt", 9)
        .time(1_736_400_625_123_456_789, 32_400)
        .request("a1b2c3d4-0000-4000-8000-000000000000", "a1b2c3d4", 3)
        .int("bucksaw.prompt.chars", -7)
        .content("bucksaw.prompt.text", "가나 E-123456")
        .hit(4, 7..15)
        .float("gen_ai.request.temperature", 0.7)
        .bool("bucksaw.prompt.vision_tag", true)
        .record("gpu.memory", 5)
        .engine()
        .stub()
        .record("log", 21)
        .int("bucksaw.prompt.chars", 9)
        .build()
}

#[test]
fn views_say_what_the_builder_was_told() {
    let batch = sample();
    let records = Records::new(&batch);
    let all: Vec<RecordView<'_>> = records.iter().collect();
    assert_eq!(all.len(), 3);

    let first = all[0];
    assert_eq!((first.event(), first.severity(), first.seq()), ("request.prompt", 9, 3));
    assert_eq!((first.time(), first.utc_offset()), (1_736_400_625_123_456_789, 32_400));
    assert_eq!(first.short_id(), "a1b2c3d4");
    assert_eq!(first.request_id(), "a1b2c3d4-0000-4000-8000-000000000000");
    assert!(!first.is_stub() && !first.is_engine());
    assert_eq!(first.int("bucksaw.prompt.chars"), Some(-7));
    assert_eq!(first.float("bucksaw.prompt.chars"), Some(-7.0));
    assert_eq!(first.float("gen_ai.request.temperature"), Some(0.7));
    assert_eq!(first.bool("bucksaw.prompt.vision_tag"), Some(true));
    assert_eq!(first.text("bucksaw.prompt.text"), Some("가나 E-123456"));
    assert_eq!(first.text("bucksaw.prompt.chars"), None);
    assert_eq!(first.text("nothing"), None);
    let field = first.field("bucksaw.prompt.text").unwrap();
    assert!(field.is_content());
    assert_eq!(field.index(), 1);
    let hits: Vec<_> = first.hits(&field).iter().map(|it| (it.pattern, it.start)).collect();
    assert_eq!(hits, [(4, 7)]);
    assert_eq!(first.fields().len(), 4);

    assert!(all[1].is_stub() && all[1].is_engine());
    assert_eq!((all[1].fields().len(), all[1].request_id()), (0, ""));
    let last = all[2].fields().next().unwrap();
    assert_eq!((last.name(), last.value()), ("bucksaw.prompt.chars", ValueRef::Int(9)));
    assert_eq!((last.index(), last.name_index()), (4, first.fields().next().unwrap().name_index()));
}

#[test]
fn a_batch_that_lies_reads_as_empty() {
    let mut batch = sample();
    batch.records[0].values_end = 1000;
    batch.records[0].event = 1000;
    batch.records[2].values_end = 1;
    batch.records[0].short_id.end = u32::MAX;
    batch.values.bits[1] = 1 | (2_u64 << 32);
    batch.values.names[0] = 99;
    read(&batch);
    batch.values.kinds.pop();
    read(&batch);
    assert_eq!(Records::new(&batch).iter().map(|it| it.fields().len()).sum::<usize>(), 0);
}

/// Everything that a view can be asked.
fn read(batch: &Batch) {
    for record in &Records::new(batch) {
        assert!(record.event().len() < 20 && record.short_id().len() < 9);
        for field in record.fields() {
            let _ = (field.name(), field.value(), record.hits(&field));
        }
    }
}

struct Probe(u32);

impl Plugin for Probe {
    type Config = NoConfig;
    fn description() -> Description {
        crate::describe!("A probe.", "{}")
    }
    fn configure(_: NoConfig) -> Result<(Self, Setup), Vec<Diagnostic>> {
        Ok((Self(0), Setup::default()))
    }
}

impl Editor for Probe {
    fn edit(&self, record: RecordView<'_>, edits: &mut Edits) -> Verdict {
        for field in record.fields().filter(|it| it.text().is_some()) {
            edits.label(&field, 0..3, 0);
            edits.label(&field, 3..3, 0);
        }
        match record.event() {
            "log" => Verdict::Drop(2),
            "gpu.memory" => Verdict::Fail(5),
            _ => Verdict::Keep,
        }
    }
}

impl Formatter for Probe {
    fn format(&self, record: RecordView<'_>, lines: &mut Lines) {
        if !record.is_stub() {
            lines.line(record.event());
            lines.text().push_str("left open");
        }
    }
}

impl Handler for Probe {
    fn handle(&mut self, record: RecordView<'_>, _: &mut impl Alerts) -> Result<(), u32> {
        self.0 += 1;
        if record.is_stub() { Err(self.0) } else { Ok(()) }
    }
}

#[test]
fn each_role_runs_over_a_batch() {
    let batch = sample();
    let (mut plugin, _) = native::configure::<Probe>("").unwrap();
    let answer = native::edit(&plugin, &batch);
    let verdicts: Vec<_> = answer.verdicts.iter().map(|it| (it.code, it.detail)).collect();
    assert_eq!(verdicts, [(0, 0), (2, 5), (1, 2)]);
    assert_eq!(answer.edits.len(), 1);
    assert_eq!(native::apply(&batch, 1, &answer.edits, &["X".to_owned()]), "[X]나 E-123456");

    let formatted = native::format(&plugin, &batch);
    assert_eq!(native::lines(&formatted), ["request.prompt", "left open", "log", "left open"]);
    let of: Vec<_> = formatted.lines.iter().map(|it| it.record).collect();
    assert_eq!(of, [0, 0, 2, 2]);

    let result = native::handle(&mut plugin, &batch, &mut native::Recorded::default());
    assert_eq!((result, plugin.0), (Err(2), 3));
}

#[test]
fn an_instance_answers_only_once_it_is_configured() {
    let instance = Instance::<Probe>::new();
    assert_eq!(instance.with(|it| it.0), None);
    assert!(instance.configure("{\"x\":1}").is_err());
    assert_eq!(instance.with(|it| it.0), None);
    assert!(instance.configure("{}").is_ok());
    assert_eq!(instance.with(|it| it.0), Some(0));
    let batch = sample();
    assert!(crate::editor::unconfigured(&batch).verdicts.iter().all(|it| it.code == 2));
    assert_eq!(crate::formatter::unconfigured(&batch).lines.len(), 3);
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    kinds: Vec<u8>,
    inner: Inner,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Inner {
    mode: String,
}

#[test]
fn a_bad_configuration_is_refused_by_key() {
    let check = |json: &str, key: &str, part: &str| {
        let diagnostics = config::parse::<Config>(json).unwrap_err();
        assert_eq!(diagnostics[0].key, key, "{json}");
        assert!(diagnostics[0].message.contains(part), "{:?}", diagnostics[0].message);
    };
    check(r#"{"kindz": []}"#, "kindz", "expected `kinds` or `inner`");
    check(r#"{"inner": {"mode": "x", "mod": 1}}"#, "inner.mod", "expected `mode`");
    check("{\n \"kinds\": [1,\n 2, \"x\"]}", "kinds[2]", "invalid type");
    check(r#"{"inner": {"mode": 3}}"#, "inner.mode", "expected a string");
    check("[]", "", "not an object");
    check("3", "", "not an object");
    assert!(config::parse::<Config>("  ").unwrap().kinds.is_empty());
    assert_eq!(config::parse::<Config>(r#"{"inner":{"mode":"a"}}"#).unwrap().inner.mode, "a");
}

#[test]
fn dates_of_the_gregorian_calendar() {
    let check = |seconds: i64, text: &str| {
        assert_eq!(std::str::from_utf8(&clock::stamp(seconds, b'T')).unwrap(), text);
    };
    check(0, "1970-01-01T00:00:00");
    check(-1, "1969-12-31T23:59:59");
    check(951_782_400, "2000-02-29T00:00:00");
    check(951_868_800, "2000-03-01T00:00:00");
    check(1_736_433_025, "2025-01-09T14:30:25");
    check(4_107_542_399, "2100-02-28T23:59:59");
    check(4_107_542_400, "2100-03-01T00:00:00");
    assert_eq!(clock::local_seconds(-1, 3600), 3599);
    assert_eq!(clock::subsecond(-1), 999_999_999);
    let mut out = String::new();
    clock::push_padded(&mut out, 42, 3);
    clock::push_padded(&mut out, 0, 1);
    clock::push_padded(&mut out, 4_294_967_295, 3);
    assert_eq!(out, "04204294967295");
}

#[test]
fn levels_have_names_and_numbers() {
    for (index, name) in severity::NAMES.iter().enumerate() {
        let number = severity::parse(&name.to_lowercase()).unwrap();
        assert_eq!((severity::name(number), severity::level(number)), (*name, index));
    }
    assert_eq!(severity::parse("verbose"), None);
}

#[test]
fn a_store_keeps_what_its_grant_has_room_for() {
    let long = "k".repeat(257);
    assert_eq!(state::get("k"), None);
    assert_eq!(state::set("k", b"seven b"), Ok(()));
    assert_eq!(state::get("k"), Some(b"seven b".to_vec()));
    assert_eq!(state::add("k", 1), Err(StateError::NotCounter));
    assert_eq!(state::set(&long, b""), Err(StateError::TooLarge));
    assert_eq!(state::add(&long, 1), Err(StateError::TooLarge));
    assert_eq!(state::set("l", &[0; (64 << 10) + 1]), Err(StateError::TooLarge));
    assert_eq!(state::set("l", &[0; 64 << 10]), Err(StateError::Full));
    state::remove("k");
    assert_eq!((state::add("k", 3), state::add("k", i64::MAX)), (Ok(3), Ok(i64::MAX)));
    assert_eq!(state::get("k"), Some(i64::MAX.to_le_bytes().to_vec()));

    native::state::reset(Some(10));
    assert_eq!((state::get("k"), state::add("k", -2)), (None, Ok(-2)));
    assert_eq!((state::add("k", 1), state::add("l", 1)), (Ok(-1), Err(StateError::Full)));

    native::state::reset(None);
    assert_eq!(state::set("k", b""), Err(StateError::NotGranted));
    assert_eq!((state::get("k"), state::add("k", 1)), (None, Err(StateError::NotGranted)));
}
