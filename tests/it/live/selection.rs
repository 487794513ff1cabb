//! Which chain a request takes, while the configuration that says it changes; and the editors that no route can leave out.

use serde_json::json;

use super::{ADDRESS, REFUSALS, REVISION, prompts, refused};
use crate::support::{Config, Server, http::chat_body};

const CHAT: &str = "/v1/chat/completions";

/// A chain for a tenant, one while the log is at DEBUG, and one for every request that is left; none of them names an editor.
fn config(log: &str) -> Config {
    let output = |name: &str| {
        format!("[outputs.{name}]\nsink = \"file\"\npath = \"{name}.log\"\nformat = \"json\"\n")
    };
    let chain = |name: &str| format!("[chains.{name}]\noutputs = [{name:?}]\n");
    let route =
        |when: &str, chain: &str| format!("[[route]]\nwhen = {{ {when} }}\nchain = {chain:?}\n");
    let names = ["team", "whole", "sample"];
    Config::json()
        .server("tenant_header = \"x-team\"")
        .log(log)
        .plugin("redact", "")
        .more(&names.map(output).concat())
        .more(&names.map(chain).concat())
        .more(&route("tenant = \"acme\"", "team"))
        .more(&route("level = \"DEBUG\"", "whole"))
        .more(&route("sample = 1", "sample"))
}

#[test]
fn routes_follow_the_configuration_and_the_floor_stays() {
    let mut server = Server::start(&config("always = [\"redact\"]"));
    let ask = |text: &str, headers: &[(&str, &str)]| {
        let body = chat_body(&format!("{text} {ADDRESS}"), &json!({"max_tokens": 1}));
        assert_eq!(server.post_with(CHAT, headers, &body).status, 200);
    };
    let acme = [("x-team", "acme")];
    ask("a", &acme);
    ask("b", &[]);
    ask("c", &[("x-tenant", "acme")]);
    server.configure(&config("always = [\"redact\"]\nlevel = \"DEBUG\"").text());
    server.reaches(REVISION, 2);
    ask("d", &acme);
    ask("e", &[]);
    // Without the floor, chains would write what came: that is no change that is taken over.
    server.configure(&config("").text());
    server.reaches(REFUSALS, 1);
    ask("f", &acme);
    server.stop();

    for (file, expected) in [
        ("team.log", ["a", "d", "f"].as_slice()),
        ("sample.log", ["b", "c"].as_slice()),
        ("whole.log", ["e"].as_slice()),
        ("json.log", [""; 0].as_slice()),
    ] {
        let expected: Vec<String> = expected.iter().map(|it| format!("{it} [EMAIL]")).collect();
        assert_eq!(prompts(&server, file), expected, "{file}");
        assert!(!server.read(file).contains(ADDRESS), "{file}");
    }
    // What belongs to no request takes the default chain.
    let told = refused(&server, "json.log");
    let [notice] = told.as_slice() else { panic!("{told:#?}") };
    for chain in ["team", "whole", "sample"] {
        let problem = format!("chains.{chain}.edit: content would reach the outputs as it is");
        assert!(notice.contains(&problem), "{notice}");
    }
}
