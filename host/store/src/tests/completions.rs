//! Completions come back as they were released, or say why not; their metadata change through the chain.

use std::{sync::mpsc, time::Duration};

use record::{Field, field};
use serde_json::{Value as Json, json};

use super::{Draft, MIB, Scene, pair, update};
use crate::{Changed, Page, Paging};

#[test]
fn calls_of_earlier_answers_come_back_as_calls_without_what_was_taken_out() {
    let mut scene = Scene::new(MIB);
    let call = |at: i64, id: &str| {
        vec![
            Field::new(field::STORE_MESSAGE, 1_i64),
            Field::new(field::STORE_CALL, at),
            Field::new(field::STORE_ROLE, "assistant"),
            Field::new(field::STORE_KIND, "call"),
            Field::new(field::STORE_KEY, "find"),
            Field::new(field::STORE_TEXT, "{\"it\":\"secret\"}"),
            Field::new(field::STORE_VALUE, id),
        ]
    };
    let answered = vec![
        Field::new(field::STORE_MESSAGE, 2_i64),
        Field::new(field::STORE_ROLE, "tool"),
        Field::new(field::STORE_KIND, "call_id"),
        Field::new(field::STORE_VALUE, "c-secret"),
    ];
    let draft = Draft {
        messages: vec![
            ("user", vec![Some("find it".to_owned())]),
            ("assistant", vec![]),
            ("tool", vec![Some("a secret".to_owned())]),
        ],
        // In no order.
        more: vec![call(1, "other"), answered, call(0, "c-secret")],
        ..Draft::new("c", "")
    };
    scene.send(&draft);
    scene.settle();
    let paging = Paging { limit: 20, ..Paging::default() };
    let page = scene.store.messages("c", &paging).unwrap().unwrap().data;
    let call = |id: &str| {
        let function = json!({"name": "find", "arguments": "{\"it\":\"[SECRET]\"}"});
        json!({"id": id, "type": "function", "function": function})
    };
    assert_eq!(page.len(), 3);
    assert_eq!(page[1]["content"], Json::Null);
    assert_eq!(page[1]["tool_calls"], json!([call("c-[SECRET]"), call("other")]));
    assert_eq!(page[2]["content"], "a [SECRET]");
    assert_eq!(page[2]["tool_call_id"], "c-[SECRET]");
    assert!(page[0].get("tool_calls").is_none() && page[0].get("tool_call_id").is_none());
    assert_eq!(scene.get("c").unwrap()["metadata"], json!({}));
    assert!(!scene.is_on_disk("secret"));
}

#[test]
fn a_completion_comes_back_as_it_was_released_in_the_shape_of_the_api() {
    let mut scene = Scene::new(MIB);
    let text = |it: &str| Some(it.to_owned());
    let draft = Draft {
        messages: vec![
            ("system", vec![text("be kind")]),
            ("user", vec![text("a secret"), None]),
            ("assistant", vec![]),
        ],
        answer: "the secret \"is\" out".to_owned(),
        metadata: vec![pair("of", "secret"), pair("a", "b")],
        ..Draft::new("chatcmpl-1", "")
    };
    scene.send(&draft);
    scene.settle();
    let want = json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "request_id": "a1b2c3d4-0000-4000-8000-00000000abcd",
        "choices": [{
            "index": 0,
            "message": {
                "role": "assistant", "content": "the [SECRET] \"is\" out", "refusal": null,
                "tool_calls": null, "function_call": null,
            },
            "logprobs": null,
            "finish_reason": "length",
        }],
        "usage": {
            "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 1},
        },
        "seed": 5, "temperature": 0.5, "top_p": null, "presence_penalty": null,
        "frequency_penalty": null, "service_tier": "default", "system_fingerprint": null,
        "input_user": null, "response_format": null, "tool_choice": null, "tools": null,
        "metadata": {"a": "b", "of": "[SECRET]"},
    });
    assert_eq!(scene.get("chatcmpl-1"), Some(want));
    let paging = Paging { limit: 20, ..Paging::default() };
    let page = scene.store.messages("chatcmpl-1", &paging).unwrap().unwrap();
    let message = |at: usize, role: &str, content: Json, parts: Json| {
        json!({
            "id": format!("chatcmpl-1-{at}"), "role": role, "content": content, "refusal": null,
            "name": null, "content_parts": parts,
        })
    };
    let parts = json!([
        {"type": "text", "text": "a [SECRET]"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
    ]);
    let want = [
        message(0, "system", json!("be kind"), Json::Null),
        message(1, "user", Json::Null, parts),
        message(2, "assistant", Json::Null, Json::Null),
    ];
    assert_eq!(page, Page { data: want.to_vec(), has_more: false });
    assert_eq!(scene.store.messages("chatcmpl-2", &paging).unwrap(), None);
    assert!(scene.is_on_disk("be kind"), "the test looks in the right place");
    assert!(!scene.is_on_disk("secret"));
}

#[test]
fn a_completion_that_is_not_whole_has_no_content_and_says_why() {
    let check = |draft: &Draft, cut: usize, want: Json| {
        let mut scene = Scene::new(MIB);
        let mut records = draft.records(1);
        if cut > 0 {
            records.remove(cut - 1);
        }
        scene.chain.run(records);
        scene.settle();
        let it = scene.get("c").unwrap();
        assert_eq!(it["bucksaw"]["withheld"], want, "{draft:?}");
        assert_eq!(it["choices"][0]["message"]["content"], Json::Null);
        assert_eq!(it["usage"]["total_tokens"], 5);
        assert_eq!(it["metadata"], json!({}));
        let paging = Paging { limit: 20, ..Paging::default() };
        assert_eq!(scene.store.messages("c", &paging).unwrap(), Some(Page::default()));
        assert!(!scene.is_on_disk("hush") && !scene.is_on_disk("an answer"));
        assert_eq!((scene.store.counts().stored, scene.store.counts().withheld), (1, 1));
    };
    let mut draft = Draft { metadata: vec![pair("k", "hush")], ..Draft::new("c", "hush") };
    let incomplete = json!({"reason": "incomplete", "plugin": null});
    for cut in 1..=3 {
        check(&draft, cut, incomplete.clone());
    }
    let trap = json!({"reason": "trap", "plugin": "censor"});
    draft.metadata[0].0 = "poison".to_owned();
    check(&draft, 0, trap.clone());
    draft.metadata.clear();
    draft.messages[0].1.push(Some("poison".to_owned()));
    check(&draft, 0, trap.clone());
    draft.messages[0].1[1] = Some("drop".to_owned());
    check(&draft, 0, incomplete);
    draft.messages[0].1.pop();
    draft.answer = "poison".to_owned();
    check(&draft, 0, trap);
}

#[test]
fn records_whose_last_one_is_lost_are_given_up() {
    let mut scene = Scene::new(MIB);
    for _ in 0..300 {
        scene.batch += 1;
        let mut records = Draft::new("c", "x").records(scene.batch);
        records.pop();
        scene.chain.run(records);
    }
    scene.send(&Draft::new("whole", "x"));
    scene.settle();
    assert_eq!(scene.ids(), ["whole"]);
    assert_eq!(scene.store.counts().lost, 300 + 1 - 256);
}

#[test]
fn metadata_change_through_the_chain_or_not_at_all() {
    let mut scene = Scene::new(MIB);
    scene.send(&Draft { metadata: vec![pair("old", "1")], ..Draft::new("c", "x") });
    scene.settle();
    let row = scene.store.get("c").unwrap().unwrap().row;
    let mut check = |row: i64, metadata: &[(String, String)], changed: Changed, after: Json| {
        scene.batch += 1;
        let (tell, told) = mpsc::channel();
        let told_to = move |it| tell.send(it).unwrap();
        scene.store.expect(scene.batch, told_to).unwrap();
        scene.chain.run(update(scene.batch, row, metadata));
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(changed));
        assert_eq!(scene.get("c").unwrap()["metadata"], after);
    };
    check(
        row,
        &[pair("a secret", "b"), pair("k", "secret")],
        Changed::Done,
        json!({"a [SECRET]": "b", "k": "[SECRET]"}),
    );
    check(
        row,
        &[pair("k", "poison")],
        Changed::Withheld("trap"),
        json!({"a [SECRET]": "b", "k": "[SECRET]"}),
    );
    check(row + 1, &[pair("k", "v")], Changed::Gone, json!({"a [SECRET]": "b", "k": "[SECRET]"}));
    check(row, &[], Changed::Done, json!({}));
    assert!(!scene.is_on_disk("secret"));
}

#[test]
fn the_first_of_an_id_stays() {
    let mut scene = Scene::new(MIB);
    scene.send(&Draft::new("c", "first"));
    scene.send(&Draft::new("c", "second"));
    scene.settle();
    assert!(scene.is_on_disk("first") && !scene.is_on_disk("second"));
    assert_eq!(scene.store.counts().duplicates, 1);
}
