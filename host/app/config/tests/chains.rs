//! Chains, the plugins in them, and who gets which.

use std::path::Path;

use expect_test::expect;

use super::{check, good};

#[test]
fn a_store_is_somewhere_and_its_chain_may_write_nowhere_else() {
    check(
        "[store]",
        expect![[r#"
        store.path: missing: write where the database is to be
    "#]],
    );
    let store = "[store]\npath = \"a.db\"\n";
    let chained = format!("{store}chain = \"kept\"\n");
    check(
        &format!("{store}chain = \"kept\"\nmax_mib = 0\nages = 1"),
        expect![[r#"
        store.max_mib: 0 is not between 1 and 1048576
        store.ages: unknown key; known: all, chain, max_age_hours, max_mib, path
        store.chain: no chain named "kept"; known: default
    "#]],
    );
    check(&format!("{chained}[chains.kept]\nedit = [\"redact\"]"), expect!["good"]);
    check(
        &format!("{chained}[chains.kept]"),
        expect![[r#"
        chains.kept.edit: content would reach the outputs as it is: add an editor such as "redact", or write allow_raw_content = true
    "#]],
    );
    check(
        &format!(
            "{chained}[chains.kept]\nedit = [\"redact\"]\n[[route]]\nwhen = {{ path = \"/vision\" }}\nchain = \"kept\""
        ),
        expect![[r#"
            chains.kept.outputs: the chain writes nowhere: name at least one output
        "#]],
    );
    let it = good(&format!("{store}all = true")).store.unwrap();
    assert_eq!((it.path.as_path(), it.all, it.chain), (Path::new("/etc/a.db"), true, None));
    assert_eq!((it.max_age.as_secs(), it.max_bytes), (720 * 3600, 1 << 30));
}

#[test]
fn chains_and_their_shadows_are_checked_against_each_other() {
    // The first lines belong to the chain `default`.
    check(
        r#"
shadow = "strict"
shadow_share = 1.5
[chains.lone]
edit = ["redact"]
outputs = ["console"]
shadow_share = 0.5
[chains.lost]
edit = ["redact"]
outputs = ["console"]
shadow = "strcit"
shadow_share = "half"
[chains.open]
outputs = ["console"]
[chains.own]
edit = ["redact"]
outputs = ["console"]
shadow = "own"
[chains.strict]
shadow = "lone"
"#,
        expect![[r#"
            chains.default.shadow_share: 1.5 is not a share: write a number over 0 and up to 1
            chains.lost.shadow_share: expected a number, found a string
            chains.lost.shadow: no chain named "strcit"; did you mean "strict"?
            chains.lone.shadow_share: there is no shadow that could take it: write shadow = "<chain>", or remove it
            chains.open.edit: content would reach the outputs as it is: add an editor such as "redact", or write allow_raw_content = true
            chains.own.shadow: a chain cannot be its own shadow: name another chain
            chains.strict.shadow: this chain is the shadow of "default", and a shadow has none of its own: remove one of the two
        "#]],
    );
    let shadow = "shadow = \"strict\"\n[chains.strict]\n";
    check(shadow, expect!["good"]);
    check(
        &format!("{shadow}[[route]]\nwhen = {{ sample = 0.5 }}\nchain = \"strict\""),
        expect![[r#"
            chains.strict.outputs: the chain writes nowhere: name at least one output
            chains.strict.edit: content would reach the outputs as it is: add an editor such as "redact", or write allow_raw_content = true
        "#]],
    );
    check("[chains.raw]\noutputs = [\"console\"]\nallow_raw_content = true", expect!["good"]);
    check(
        "[chains.raw]\noutputs = [\"console\"]\nedit = [1]",
        expect![[r#"
            chains.raw.edit[0]: expected a string, found a whole number
        "#]],
    );
    check(
        "[chains.raw]\noutputs = [\"console\"]\n[log]\nalways = 1",
        expect![[r#"
            log.always: expected a list of strings, found a whole number
        "#]],
    );
}

#[test]
fn every_chain_starts_with_the_editors_that_no_route_can_drop() {
    let config = good(
        r#"
shadow = "two"
shadow_share = 1
[plugins.truncate]
[chains.one]
outputs = ["console"]
[chains.two]
edit = ["truncate", "redact"]
[log]
always = ["redact"]
"#,
    );
    let check = |name: &str, edit: &[&str], own: &[&str]| {
        let chain = config.chains.iter().find(|it| it.name == name).unwrap();
        assert_eq!(chain.edit, edit, "{name}");
        assert_eq!(chain.own_edit, own, "{name}");
        chain
    };
    let default = check("default", &["redact"], &["redact"]);
    let shadow = default.shadow.as_ref().unwrap();
    assert_eq!((shadow.chain.as_str(), shadow.share), ("two", 1.0));
    check("one", &["redact"], &[]);
    check("two", &["redact", "truncate"], &["truncate", "redact"]);
}

#[test]
fn what_a_plugin_may_use_is_checked() {
    check(
        r#"
[plugins.json]
grants = { alert = ["ops"], state_kib = 0, http = ["https://hooks.example.com", "hooks.example.com", "*.example.com"] }
limits = { memory_mib = 8, high_water_mib = 9, calls_max = 0 }
"#,
        expect![[r#"
            plugins.json.grants.state_kib: 0 is not between 1 and 65536
            plugins.json.limits.calls_max: 0 is not between 1 and 1000000000
            plugins.json.grants.alert[0]: no alert channel named "ops"
            plugins.json.limits.high_water_mib: more than the plugin may have: write at most 8, or raise memory_mib
            plugins.json.grants.http[0]: not a host: leave out the scheme, as in "hooks.example.com"
            plugins.json.grants.http[2]: not a host: a wildcard would grant hosts that nobody thought of: name each host
        "#]],
    );
    let config = good(
        r#"
[plugins.json]
grants = { state_kib = 64, http = ["Hooks.example.com", "127.0.0.1:9000"] }
limits = { memory_mib = 8, calls_max = 1000 }
"#,
    );
    let json = config.plugins.iter().find(|it| it.settings.name == "json").unwrap();
    let (grants, limits) = (&json.settings.grants, &json.settings.limits);
    assert_eq!(grants.state, Some(64 << 10));
    assert_eq!(grants.http, ["hooks.example.com", "127.0.0.1:9000"]);
    assert_eq!((limits.memory, limits.high_water), (8 << 20, 2 << 20), "a quarter when not said");
    assert_eq!(limits.calls_max, 1000);
}

#[test]
fn what_a_route_asks_for_is_checked() {
    check(
        r#"
[engine]
adapters = { demo-ko = "builtin:demo-ko" }
[[route]]
when = { adapter = "demo", level = "LOUD", sample = 0 }
chain = "default"
[[route]]
when = { sample = 2 }
chain = "default"
[[route]]
when = { header = {} }
chain = "default"
[[route]]
when = { tennant = "acme" }
chain = "default"
"#,
        expect![[r#"
            route[0].when.sample: 0 is not a share: write a number over 0 and up to 1
            route[1].when.sample: 2 is not a share: write a number over 0 and up to 1
            route[3].when.tennant: unknown key; did you mean "tenant"?
            route[0].when.adapter: no adapter named "demo"; did you mean "demo-ko"?
            route[0].when.level: "LOUD" is not a log level: write DEBUG, INFO, WARNING, ERROR or CRITICAL
            route[2].when: it matches every request: say when, by path, model, adapter, tenant, header, level or sample
        "#]],
    );
    let route = |when: &str| {
        let text = format!("[[route]]\nwhen = {{ {when} }}\nchain = \"default\"");
        good(&text).routes.pop().unwrap()
    };
    assert_eq!(route("sample = 1").sample, Some(1.0));
    assert_eq!(route("level = \"debug\"").level, Some(record::Severity::DEBUG));
    assert_eq!(route("tenant = \"acme\"").tenant.as_deref(), Some("acme"));
}
