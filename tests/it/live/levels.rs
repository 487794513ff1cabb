//! `bucksaw level`: an operator sees more of some requests, and no client can ask for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::admin::{Admin, said};
use crate::support::{Config, Server, by_request, http::chat_body, records, terminals};

const ACME: (&str, &str) = ("x-tenant", "acme");

/// Names of the levels of some records, and their streams.
fn kinds(records: &[Value]) -> BTreeSet<(String, String)> {
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    records.iter().map(|it| (text(&it["severity_text"]), text(&it["stream"]))).collect()
}

#[test]
fn a_level_holds_for_streams_or_for_requests_with_a_header() {
    let admin = Admin::new();
    let mut server = Server::start(&Config::json().log("watch = false").more(&admin.lines()));
    let level =
        |arguments: &[&str], code: i32| said(&server.command_with("level", arguments), code);
    let ask = |headers: &[(&str, &str)]| {
        let answer = server.post_with(
            "/v1/chat/completions",
            headers,
            &chat_body("Hello!", &json!({"max_tokens": 2})),
        );
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.id()
    };
    let before = ask(&[ACME]);
    let told = level(&["debug", "--header", "X-Tenant=acme"], 0);
    let header = "requests with x-tenant: \"acme\": DEBUG\n";
    assert_eq!(told, format!("app: INFO\nengine: INFO\n{header}"));
    let (seen, other, none) = (ask(&[ACME]), ask(&[("x-tenant", "other")]), ask(&[]));

    let told = level(&["DEBUG", "--stream", "engine"], 0);
    assert_eq!(told, format!("app: INFO\nengine: DEBUG\n{header}"));
    let (still_seen, of_engine) = (ask(&[ACME]), ask(&[]));
    // What was set outlives a change of the chains.
    server.configure(
        &Config::json().log("watch = false").edit(&["redact"]).more(&admin.lines()).text(),
    );
    assert_eq!(admin.reload(), 2);
    let of_engine_after = ask(&[]);

    assert_eq!(level(&["--reset", "--header", "x-tenant=acme"], 0), "app: INFO\nengine: DEBUG\n");
    assert_eq!(level(&["--reset"], 0), "app: INFO\nengine: INFO\n");
    let after = ask(&[ACME]);

    let told = level(&["LOUD"], 1);
    assert!(told.contains("level \"LOUD\" is not a log level: write DEBUG"), "{told}");
    let told = level(&["INFO", "--header", "authorization=Bearer x"], 1);
    assert!(told.contains("header.name must not be one that holds secrets"), "{told}");
    for at in 0..16 {
        level(&["INFO", "--header", &format!("x-a={at}")], 0);
    }
    let told = level(&["INFO", "--header", "x-a=16"], 1);
    assert!(told.contains("header: 16 have a level already"), "{told}");
    server.stop();

    let all = records(&server.read("json.log"));
    let requests = by_request(&all);
    let kind = |level: &str, stream: &str| (level.to_owned(), stream.to_owned());
    let info = BTreeSet::from([kind("INFO", "app")]);
    let engines = &info | &BTreeSet::from([kind("DEBUG", "engine")]);
    let everything = &engines | &BTreeSet::from([kind("DEBUG", "app")]);
    let check = |id: &str, want: &BTreeSet<(String, String)>| {
        let records = &requests[id];
        assert_eq!(kinds(records), *want, "{records:#?}");
        assert_eq!(terminals(records), ["request.finished"]);
        let places: Vec<_> = records.iter().map(|it| it["seq"].as_u64().unwrap()).collect();
        assert_eq!(places, (0..records.len() as u64).collect::<Vec<_>>(), "no holes");
    };
    for id in [&before, &other, &none, &after] {
        check(id, &info);
    }
    for id in [&seen, &still_seen] {
        check(id, &everything);
    }
    for id in [&of_engine, &of_engine_after] {
        check(id, &engines);
    }
    let notices: Vec<_> =
        all.iter().filter_map(|it| it["attributes"]["bucksaw.notice"].as_str()).collect();
    let notice = "an operator set the level of requests with a certain x-tenant to DEBUG";
    assert!(notices.contains(&notice), "{notices:#?}");
}
