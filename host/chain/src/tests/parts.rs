//! Texts that arrive in parts: however they are split, they are edited as a whole, and withheld where a part is missing.

use std::sync::Arc;

use proptest::prelude::*;
use record::{Field, Record, RequestContext, Value};

use super::{Digits, labels, record, spec, tools, traps};
use crate::{Chain, Editor, Source};

/// What a chain releases of a text that arrives in parts, all parts joined.
fn stream(parts: &[String], editor: Arc<dyn Source<dyn Editor>>) -> String {
    let spec = spec(vec![editor]);
    let mut chain = Chain::new(&spec, tools());
    let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
    let context = Some(Arc::new(RequestContext::new(id, "test".into())));
    let mut batch: Vec<Record> = parts
        .iter()
        .map(|it| Record {
            event: "response.delta".into(),
            context: context.clone(),
            fields: vec![Field::new("bucksaw.response.delta", it.as_str())],
            ..record("")
        })
        .collect();
    batch.push(Record { event: "request.finished".into(), context, fields: vec![], ..record("") });
    let mut out = String::new();
    for it in batch.into_iter().flat_map(|it| chain.edit(vec![it])) {
        match it.get("bucksaw.response.delta") {
            Some(Value::Text(text)) => out.push_str(text),
            _ if it.stub.is_some() => out.push_str("(stub)"),
            _ => {}
        }
    }
    out
}

proptest! {
    #[test]
    fn however_a_text_is_split_it_is_edited_as_a_whole(
        runs in proptest::collection::vec("[0-9]{1,5}|[a-z한글 ]{1,40}", 0..60),
        sizes in proptest::collection::vec(1_usize..50, 1..20),
    ) {
        // Runs of digits are apart, so that none is longer than the editor promised.
        let text = runs.join("-");
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, more) = rest.split_at(rest.ceil_char_boundary(*size));
            parts.push(part.to_owned());
            rest = more;
        }
        let whole = stream(std::slice::from_ref(&text), Arc::new(Digits));
        prop_assert_eq!(stream(&parts, Arc::new(Digits)), whole);
    }
}

#[test]
fn a_text_with_a_hole_is_withheld() {
    let spec = spec(vec![]);
    let mut chain = Chain::new(&spec, tools());
    let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
    let context = Arc::new(RequestContext::new(id, "test".into()));
    let delta = |text: String| Record {
        event: "response.delta".into(),
        context: Some(context.clone()),
        fields: vec![Field::new("bucksaw.response.delta", text)],
        ..record("")
    };
    assert!(chain.edit(vec![delta("4111 1111 ".to_owned())]).is_empty(), "it is held back");
    // What stood between was lost on its way here.
    context.tear();
    let released = chain.edit(vec![delta("1111 ".repeat(40))]);
    assert_eq!(released.len(), 1);
    assert_eq!(released[0].stub.as_ref().map(|it| it.error), Some("memory"));
    assert!(released[0].get("bucksaw.response.delta").is_none());
}

#[test]
fn what_an_editor_cannot_promise_waits_for_the_end() {
    let parts: Vec<String> = (0..100).map(|it| format!("part {it} of a text, ")).collect();
    assert_eq!(stream(&parts, labels("ALL")), parts.concat(), "it edits another field");
    // One stub for the text and one for the terminal record.
    assert_eq!(stream(&parts, traps()), "(stub)(stub)");
}
