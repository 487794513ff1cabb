//! Shadow chains: they see what their chain sees, and leave nothing but counts, labels and places.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    Config, Server, by_request, eventually, http::chat_body, records, repository, terminals,
};

const CHAT: &str = "/v1/chat/completions";
const ADDRESS: &str = "kim.minsu@example.com";
/// Of the request that takes the default chain, and of the one that takes the team's.
const CARDS: [&str; 2] = ["4111 1111 1111 1111", "5555 5555 5555 4444"];
const IDS: [&str; 2] =
    ["a1b2c3d4-0000-4000-8000-000000000001", "a1b2c3d4-0000-4000-8000-000000000002"];

fn prompt(card: &str) -> String {
    format!("write to {ADDRESS} of {card}, please")
}

/// Asks one request under an id that is known, and waits until its last record is written: it was compared before.
fn ask(server: &Server, number: usize, headers: &[(&str, &str)]) {
    let mut headers = headers.to_vec();
    headers.push(("x-request-id", IDS[number]));
    let body = chat_body(&prompt(CARDS[number]), &json!({"max_tokens": 4}));
    assert_eq!(server.post_with(CHAT, &headers, &body).status, 200);
    eventually("the summary", || {
        let text = fs::read_to_string(server.path("json.log")).ok()?;
        let mut lines = text.lines().filter(|it| it.contains("\"event_name\":\"request.summary\""));
        lines.any(|it| it.contains(IDS[number])).then_some(())
    });
}

/// What requests left in the log, but for times and what was measured.
fn lines(server: &Server) -> Vec<String> {
    let records = by_request(&records(&server.read("json.log")));
    let line = |it: &Value| {
        let attributes = it["attributes"].as_object().unwrap().iter();
        let same = attributes
            .filter(|(name, it)| it.is_string() || *name == "bucksaw.redactions")
            .map(|(name, it)| format!("{name}={it}"));
        let same: Vec<String> = same.collect();
        let head = ["request_id", "seq", "event_name", "severity_text", "stub"];
        format!("{} {}", head.map(|name| it[name].to_string()).join(" "), same.join(" "))
    };
    records.values().flatten().map(line).collect()
}

fn of_event<'a>(records: &'a [Value], event: &str) -> Vec<&'a Value> {
    let found = records.iter().filter(|it| it["event_name"] == event);
    found.map(|it| &it["attributes"]).collect()
}

/// A chain that takes out two kinds and one that takes out one of them, each with the other's editor in its shadow if it has one.
fn config(shadows: bool) -> Config {
    let config = Config::json()
        .edit(&["redact"])
        .plugin("redact", "config = { kinds = [\"email\", \"card\"] }")
        .plugin("email", "source = \"builtin:redact\"\nconfig = { kinds = [\"email\"] }");
    let team = "[chains.team]\nedit = [\"email\"]\noutputs = [\"json\"]";
    let route = "[[route]]\nwhen = { tenant = \"acme\" }\nchain = \"team\"";
    if !shadows {
        return config.more(team).more(route);
    }
    config
        .chain("shadow = \"less\"\nshadow_share = 1")
        .more(team)
        .more("shadow = \"more\"\nshadow_share = 1")
        .more("[chains.less]\nedit = [\"email\"]\n[chains.more]\nedit = [\"redact\"]")
        .more(route)
}

#[test]
fn a_shadow_counts_what_it_would_do_otherwise_and_changes_nothing() {
    let run = |shadows: bool, look: &dyn Fn(&Server)| {
        let mut server = Server::start(&config(shadows));
        ask(&server, 0, &[]);
        ask(&server, 1, &[("x-tenant", "acme")]);
        look(&server);
        server.stop();
        server
    };
    let counts = |server: &Server, chain: &str, shadow: &str| {
        let names = ["different", "spans_missed", "spans_added", "text_changed"];
        let others = ["skipped", "relabelled", "outcome_changed", "traps"];
        let count = |name: &str| {
            let labels = format!("{{chain={chain:?},shadow={shadow:?}}}");
            server.metric(&format!("bucksaw_shadow_{name}_total{labels}"))
        };
        assert_eq!(others.map(count), [0; 4]);
        assert!(count("compared") >= 6);
        names.map(count)
    };
    let alone = run(false, &|server: &Server| {
        assert!(!server.get("/metrics").text.contains("bucksaw_shadow_"));
    });
    let beside = run(true, &|server: &Server| {
        assert_eq!(counts(server, "default", "less"), [1, 1, 0, 1]);
        assert_eq!(counts(server, "team", "more"), [1, 0, 1, 1]);
        assert_eq!(server.metric("bucksaw_log_records_withheld_total"), 0);
    });

    // What is written is what is written without shadows, and no line more.
    assert_eq!(lines(&beside), lines(&alone));
    let text = lines(&beside).join("\n");
    assert!(text.contains("write to [EMAIL] of [CARD], please"), "{text}");
    assert!(text.contains(&format!("write to [EMAIL] of {}, please", CARDS[1])), "{text}");
    for file in ["json.log", "stdout", "stderr"] {
        let text = beside.read(file);
        assert!(!text.contains(ADDRESS) && !text.contains(CARDS[0]), "{file}: {text}");
    }

    // One difference of each is shown: a label and a place, and no text.
    let records = records(&beside.read("json.log"));
    let shown = of_event(&records, "shadow.difference");
    assert_eq!(shown.len(), 2, "{shown:#?}");
    for (it, (chain, shadow, missed, added)) in shown
        .iter()
        .zip([("default", "less", Some(CARDS[0]), None), ("team", "more", None, Some(CARDS[1]))])
    {
        let place = |card: &str| {
            let at = prompt(card).find(card).unwrap();
            format!("CARD {at}..{}", at + card.len())
        };
        assert_eq!(it["bucksaw.chain"], chain);
        assert_eq!(it["bucksaw.shadow"], shadow);
        assert_eq!(it["bucksaw.shadow.event"], "request.prompt");
        assert_eq!(it["bucksaw.shadow.field"], "bucksaw.prompt.text");
        assert_eq!(it["bucksaw.shadow.missed"].as_str().map(str::to_owned), missed.map(place));
        assert_eq!(it["bucksaw.shadow.added"].as_str().map(str::to_owned), added.map(place));
        assert!(!CARDS.iter().any(|card| it.to_string().contains(card)), "{it}");
    }
    // The sums are told at the end.
    let mut sums: Vec<(&str, i64, i64)> = of_event(&records, "shadow.report")
        .iter()
        .map(|it| {
            let number = |name: &str| it[format!("bucksaw.shadow.{name}")].as_i64().unwrap();
            let shadow = it["bucksaw.shadow"].as_str().unwrap();
            (shadow, number("spans_missed"), number("spans_added"))
        })
        .collect();
    sums.sort_unstable();
    assert_eq!(sums, [("less", 1, 0), ("more", 0, 1)]);
    // What it cost, and what its chain did, beside each other.
    for it in of_event(&records, "shadow.report") {
        for side in ["cost_us", "chain_cost_us"] {
            let [half, most] = ["p50", "p99"].map(|share| {
                let cost = it[format!("bucksaw.shadow.{side}.{share}")].as_f64();
                cost.unwrap_or_else(|| panic!("no {side}.{share}: {it}"))
            });
            assert!(half > 0.0 && half <= most, "{side}: {it}");
        }
    }
}

#[test]
fn a_shadow_that_traps_does_no_harm() {
    let path = repository("tests/fixtures/components/hostile.wasm");
    let good = Config::json().edit(&["redact"]).log("rollback_after = 1");
    let trapped = good
        .clone()
        .plugin("hostile", &format!("source = {path:?}\nconfig = {{ do = \"trap\" }}"))
        .chain("shadow = \"bad\"\nshadow_share = 1")
        .more("[chains.bad]\nedit = [\"hostile\"]");
    let mut server = Server::start(&good);
    server.configure(&trapped.text());
    // There is a revision to go back to, and no reason.
    server.reaches("bucksaw_log_revision", 2);
    ask(&server, 0, &[]);
    ask(&server, 1, &[]);
    let count = |name: &str| {
        let labels = "{chain=\"default\",shadow=\"bad\"}";
        server.metric(&format!("bucksaw_shadow_{name}_total{labels}"))
    };
    assert!(count("traps") > 0);
    assert_eq!(count("outcome_changed"), count("traps"));
    for (series, value) in [
        ("bucksaw_log_records_withheld_total", 0),
        ("bucksaw_log_rollbacks_total", 0),
        ("bucksaw_log_revision", 2),
    ] {
        assert_eq!(server.metric(series), value, "{series}");
    }
    server.stop();

    let records = records(&server.read("json.log"));
    let requests = by_request(&records);
    for id in IDS {
        let records = &requests[id];
        assert_eq!(terminals(records), ["request.finished"]);
        assert!(records.iter().all(|it| it.get("stub").is_none()), "{records:#?}");
    }
    let prompts: Vec<&Value> = of_event(&records, "request.prompt")
        .into_iter()
        .map(|it| &it["bucksaw.prompt.text"])
        .collect();
    assert_eq!(prompts, ["write to [EMAIL] of [CARD], please"; 2]);
    for event in ["plugin.trapped", "plugin.failed", "plugin.opened"] {
        assert!(of_event(&records, event).is_empty(), "{event}");
    }
    let shown = of_event(&records, "shadow.difference");
    assert_eq!(shown[0]["bucksaw.shadow.outcome"], "kept, shadow withheld");
}
