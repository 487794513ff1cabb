//! Shadows: what is compared, what is skipped, and that nothing of them comes out.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use record::{Field, Record, RequestContext};

use super::{Digits, Fake, labels, record, spec, text, tools, traps};
use crate::{
    Chain, Editor, ShadowSpec, Source, Spec, Verdict,
    clock::{instant, pass},
};

#[test]
fn a_shadow_is_compared_and_emits_nothing() {
    let shadow = ShadowSpec { name: "other".into(), editors: vec![labels("B")], share: 1.0 };
    let spec = Spec { shadow: Some(shadow), ..spec(vec![labels("A")]) };
    let tools = tools();
    let stats = tools.stats.clone();
    let mut chain = Chain::new(&spec, tools);
    let released = chain.edit(vec![record("secret"), record("secret")]);
    assert_eq!(released.iter().map(|it| text(it)).collect::<Vec<_>>(), ["[A]", "[A]"]);
    let (_, shadow) = stats.shadows().remove(0);
    let count = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
    assert_eq!(count(&shadow.compared), 2);
    assert_eq!((count(&shadow.relabelled), count(&shadow.text_changed)), (2, 2));
    assert_eq!((count(&shadow.missed), count(&shadow.added)), (0, 0));
}

#[test]
fn a_slow_shadow_keeps_to_its_share_and_what_it_skips_is_counted() {
    const SHARE: f64 = 0.1;
    const SLOW: Duration = Duration::from_millis(100);
    let slow = |batch: &[Record]| {
        pass(SLOW);
        Ok(batch.iter().map(|_| Verdict::Keep(vec![])).collect())
    };
    let slow = Arc::new(Fake { edit: slow, opened: Arc::default() });
    let shadow = ShadowSpec { name: "slow".into(), editors: vec![slow], share: SHARE };
    let spec = Spec { shadow: Some(shadow), ..spec(vec![labels("A")]) };
    let tools = tools();
    let stats = tools.stats.clone();
    pass(Duration::ZERO);
    let start = instant();
    let mut chain = Chain::new(&spec, tools);
    for _ in 0..1000 {
        let released = chain.edit(vec![record("one"), record("two")]);
        assert_eq!(released.iter().map(|it| text(it)).collect::<Vec<_>>(), ["[A]", "[A]"]);
        pass(Duration::from_millis(10));
    }
    let (_, shadow) = stats.shadows().remove(0);
    let compared = shadow.compared.load(Ordering::Relaxed);
    assert_eq!(compared + shadow.skipped.load(Ordering::Relaxed), 2000);
    // It may be one batch over, and is not far under either.
    let spent = SLOW.as_secs_f64() * compared as f64 / 2.0;
    let share = (instant() - start).as_secs_f64() * SHARE;
    assert!((spent - share).abs() <= 2.0 * SLOW.as_secs_f64(), "{spent} of {share}");
}

#[test]
fn a_shadow_is_compared_with_a_text_in_parts_once_it_is_whole() {
    let spec = Spec {
        shadow: Some(ShadowSpec { name: "none".into(), editors: vec![], share: 1.0 }),
        ..spec(vec![Arc::new(Digits)])
    };
    let tools = tools();
    let stats = tools.stats.clone();
    let mut chain = Chain::new(&spec, tools);
    let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
    let context = Some(Arc::new(RequestContext::new(id, "test".into())));
    let padding = "and so on, ".repeat(20);
    // Of the first number, no part holds all.
    for part in ["call 12", "34 or 56, ", padding.as_str()] {
        chain.edit(vec![Record {
            event: "response.delta".into(),
            context: context.clone(),
            fields: vec![Field::new("bucksaw.response.delta", part)],
            ..record("")
        }]);
    }
    let (_, shadow) = stats.shadows().remove(0);
    let count = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
    assert_eq!(count(&shadow.compared), 0);
    let event = "request.finished".into();
    chain.edit(vec![Record { event, context, fields: vec![], ..record("") }]);
    // The text, and the record that ends it.
    assert_eq!(count(&shadow.compared), 2);
    assert_eq!((count(&shadow.missed), count(&shadow.added)), (2, 0));
    assert_eq!((count(&shadow.different), count(&shadow.text_changed)), (1, 1));
}

#[test]
fn a_text_in_parts_that_never_is_whole_is_counted_as_skipped() {
    let check = |editor: Arc<dyn Source<dyn Editor>>, parts: &[String], torn: bool| {
        let spec = Spec {
            shadow: Some(ShadowSpec { name: "none".into(), editors: vec![], share: 1.0 }),
            ..spec(vec![editor])
        };
        let tools = tools();
        let stats = tools.stats.clone();
        let mut chain = Chain::new(&spec, tools);
        let id = "a1b2c3d4-0000-4000-8000-000000000000".to_owned();
        let context = Arc::new(RequestContext::new(id, "test".into()));
        for part in parts {
            chain.edit(vec![Record {
                event: "response.delta".into(),
                context: Some(context.clone()),
                fields: vec![Field::new("bucksaw.response.delta", part.as_str())],
                ..record("")
            }]);
        }
        if torn {
            context.tear();
        }
        let event = "request.finished".into();
        chain.edit(vec![Record { event, context: Some(context), fields: vec![], ..record("") }]);
        let (_, shadow) = stats.shadows().remove(0);
        let count = |it: &std::sync::atomic::AtomicU64| it.load(Ordering::Relaxed);
        // What is compared is the record that ends the text.
        assert_eq!((count(&shadow.compared), count(&shadow.skipped)), (1, 1));
    };
    check(Arc::new(Digits), &["call 12".to_owned()], true);
    check(Arc::new(Digits), &["x".repeat(1 << 20), "y".to_owned()], false);
    check(traps(), &["and so on, ".repeat(20)], false);
}
