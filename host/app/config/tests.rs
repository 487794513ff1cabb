//! A table of bad configurations and what is said of them.

use std::path::Path;

use expect_test::{Expect, expect};

use super::{CacheFolder, Config};
use crate::{builtin, env::Vars};

/// A configuration with nothing wrong, to which a test adds.
const GOOD: &str = r#"
[plugins.redact]
[plugins.guide]
[outputs.console]
sink = "console"
format = "guide"
[chains.default]
edit = ["redact"]
outputs = ["console"]
"#;

fn problems(text: &str, vars: &Vars) -> String {
    match Config::parse(text, Path::new("."), vars) {
        Ok(_) => "good".to_owned(),
        Err(problems) => problems.0.iter().map(|it| format!("{it}\n")).collect(),
    }
}

/// What a good configuration becomes.
pub(super) fn good(added: &str) -> Config {
    Config::parse(&format!("{GOOD}{added}"), Path::new("/etc"), &Vars::default()).unwrap()
}

fn check(added: &str, want: Expect) {
    want.assert_eq(&problems(&format!("{GOOD}{added}"), &Vars::default()));
}

#[test]
fn what_ships_is_good() {
    assert_eq!(problems(builtin::CONFIG, &Vars::default()), "good");
    check("", expect!["good"]);
}

#[test]
fn every_problem_is_reported_with_its_key() {
    check(
        r#"
[servre]
[server]
listen = "localhost"
body_mib = 0
[log]
level = "verbose"
workers = "two"
[plugins.mine]
grants = { alerts = ["ops"] }
[outputs.file]
sink = "flie"
format = "giude"
[chains.audit]
edit = ["redcat"]
outputs = []
[[route]]
when = {}
chain = "vison"
"#,
        expect![[r#"
            server.body_mib: 0 is not between 1 and 1024
            log.workers: expected a whole number, found a string
            plugins.mine.grants.alerts: unknown key; did you mean "alert"?
            servre: unknown key; did you mean "server"?
            chains.audit.edit[0]: no plugin named "redcat"; did you mean "redact"?
            outputs.file.format: no plugin named "giude"; did you mean "guide"?
            route[0].chain: no chain named "vison"; known: audit, default
            chains.audit.outputs: the chain writes nowhere: name at least one output
            server.listen: "localhost" is not an address: write IP:PORT, as in "127.0.0.1:8000"
            log.level: "verbose" is not a log level: write DEBUG, INFO, WARNING, ERROR or CRITICAL
            plugins.mine.source: missing: write a path to a component, or one of builtin:alert, builtin:guide, builtin:json, builtin:redact, builtin:truncate
            outputs.file.sink: no sink named "flie"; did you mean "file"?
            route[0].when: it matches every request: say when, by path, model, adapter, tenant, header, level or sample
        "#]],
    );
}

#[test]
fn parts_that_miss_something_say_what() {
    check(
        r#"
[alerts.ops]
webhook = "ops.example.com"
[outputs.file]
sink = "file"
color = "never"
[outputs.other]
sink = "console"
path = "x"
format = "guide"
stream = "both"
"#,
        expect![[r#"
            alerts.ops.webhook: not an address that can be posted to: it must start with https:// or http://
            outputs.file.color: only a console has one: remove it, or write sink = "console"
            outputs.file.path: missing: write where the file is to be
            outputs.file.format: missing: name the plugin that formats, such as "guide" or "json"
            outputs.other.path: a console has no path: remove it, or write sink = "file"
            outputs.other.stream: "both" is not one of app, engine, all
        "#]],
    );
}

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
fn a_step_has_room_for_each_of_its_sequences() {
    check(
        "[engine]\nmax_num_seqs = 9\nmax_num_batched_tokens = 8\nkv_cache_mib = 0",
        expect![[r#"
            engine.kv_cache_mib: 0 is not between 1 and 16777216
            engine.max_num_seqs: 9 is more than engine.max_num_batched_tokens, 8: each sequence of a step has a token at least
        "#]],
    );
}

#[test]
fn a_cache_has_one_size() {
    check(
        "[engine]\nkv_cache_mib = 8\ngpu_memory_utilization = 0.5",
        expect![[r#"
            engine.gpu_memory_utilization: engine.kv_cache_mib says the same in another way: remove one of the two
        "#]],
    );
    check(
        "[engine]\ngpu_memory_utilization = 90",
        expect![[r#"
            engine.gpu_memory_utilization: 90 is not a share: write a number over 0 and up to 1
        "#]],
    );
    let it = good("[engine]\ngpu_memory_utilization = 0.5").engine;
    assert_eq!((it.gpu_memory_utilization, it.kv_cache_bytes), (Some(0.5), None));
}

#[test]
fn an_image_has_room_for_its_shape() {
    check(
        "[engine]\nimage_tokens = 255",
        expect![[r#"
            engine.image_tokens: 255 is not between 256 and 65536
        "#]],
    );
    assert_eq!(good("[engine]\nimage_tokens = 256").engine.image_tokens, Some(256));
    assert_eq!(good("").engine.image_tokens, None);
}

#[test]
fn a_cpu_has_one_type_of_numbers() {
    check(
        "[engine]\ndtype = \"fp8\"",
        expect![[r#"
            engine.dtype: "fp8" is not a type: write auto, f32, f16 or bf16
        "#]],
    );
    check(
        "[engine]\ndevice = \"cpu\"\ndtype = \"bf16\"",
        expect![[r#"
            engine.dtype: a CPU calculates in f32, not in bf16: remove it
        "#]],
    );
    let it = good("[engine]\ndevice = \"cuda\"\ndtype = \"f16\"").engine;
    assert_eq!(it.dtype, engine::DtypeChoice::F16);
    assert_eq!(good("").engine.dtype, engine::DtypeChoice::Auto);
}

#[test]
fn an_engine_runs_on_each_device_that_is_named() {
    use engine::DeviceChoice::{Auto, Cpu, Cuda};

    for (line, expected) in [
        ("", vec![Auto]),
        ("device = \"cuda\"", vec![Cuda(0)]),
        ("device = [\"cuda:1\"]", vec![Cuda(1)]),
        ("device = [\"cuda:1\", \"cuda:0\", \"cpu\"]", vec![Cuda(1), Cuda(0), Cpu]),
        ("device = [\"cpu\", \"cpu\"]", vec![Cpu, Cpu]),
    ] {
        assert_eq!(good(&format!("[engine]\n{line}")).engine.devices, expected, "{line}");
    }
    for (device, expected) in [
        ("[]".to_owned(), "it names none: name one at least, or remove it"),
        (
            "[\"cuda\", \"cuda:0\"]".to_owned(),
            "\"cuda:0\" is named twice: an engine has its device for itself",
        ),
        (
            "[\"cpu\", \"auto\"]".to_owned(),
            "auto is one device, whichever it is: name each of several",
        ),
        ("[\"cpu\", \"tpu\"]".to_owned(), "\"tpu\" is not a device: write auto, cpu or cuda:0"),
        (format!("[{}]", vec!["\"cpu\""; 17].join(", ")), "17 devices are more than 16"),
        ("7".to_owned(), "expected a string, found a whole number"),
        ("[\"cpu\", 7]".to_owned(), "expected a string, found a whole number"),
    ] {
        let text = format!("{GOOD}[engine]\ndevice = {device}");
        let problems = Config::parse(&text, Path::new("/etc"), &Vars::default()).unwrap_err();
        let told: Vec<_> = problems.0.iter().map(|it| it.message.as_str()).collect();
        assert_eq!(told, [expected], "{device}");
    }
}

#[test]
fn an_engine_is_here_or_elsewhere_and_not_both() {
    check(
        r#"
[engine]
kind = "upstream"
model = "demo"
queue = 7
[[engine.upstream]]
name = "a b"
url = "http://me:hush@host"
[[engine.upstream]]
name = "a"
url = "host:8000"
api_key = "a\nhush"
[[engine.upstream]]
name = "a"
models = []
max_in_flight = 0
"#,
        expect![[r#"
            engine.upstream[2].max_in_flight: 0 is not between 1 and 100000
            engine.model: with kind = "upstream" no model runs here: remove it, or write kind = "local"
            engine.queue: with kind = "upstream" no model runs here: remove it, or write kind = "local"
            engine.upstream[0].name: "a b" is not a name: write letters, digits, and . _ - between them
            engine.upstream[0].url: a name or password does not belong in an address: write the key as api_key
            engine.upstream[1].url: only http and https are spoken: write http://HOST:PORT
            engine.upstream[1].api_key: it cannot be sent in a header
            engine.upstream[2].name: "a" is the name of another one
            engine.upstream[2].url: missing: write http://HOST:PORT
            engine.upstream[2].models: it names no model: remove it, to ask for those that the server lists
        "#]],
    );
    check(
        "[engine]\nkind = \"upstream\"",
        expect![[r#"
            engine.upstream: missing: write an [[engine.upstream]] with a name and a url for each server
        "#]],
    );
    check(
        "[engine]\nkind = \"remote\"",
        expect![[r#"
            engine.kind: "remote" is not one of local, upstream
        "#]],
    );
    check(
        "[engine]\ncheck_seconds = 1\n[[engine.upstream]]\nname = \"a\"\nurl = \"http://a\"",
        expect![[r#"
            engine.upstream: only upstreams have it: write kind = "upstream", or remove it
            engine.check_seconds: only upstreams have it: write kind = "upstream", or remove it
        "#]],
    );
}

#[test]
fn an_upstream_has_limits_and_a_key_that_is_not_shown() {
    let config = good(
        "[engine]\nkind = \"upstream\"\n[[engine.upstream]]\nname = \"a\"\nurl = \"http://a:1/v1\"\n\
         api_key = \"sk-hush\"\nidle_seconds = 3\n[[engine.upstream]]\nname = \"b\"\nurl = \"http://b\"\n\
         api_key = \"\"\nmodels = [\"m\"]\n[store]\npath = \"a.db\"",
    );
    assert!(config.store.is_some());
    assert!(!format!("{config:?}").contains("hush"));
    let upstreams = config.upstreams.unwrap().upstreams;
    let [a, b] = upstreams.as_slice() else { panic!("{upstreams:?}") };
    assert_eq!((a.url.to_string().as_str(), a.idle.as_secs()), ("http://a:1", 3));
    assert!(a.api_key.is_some() && b.api_key.is_none());
    assert_eq!((b.models.as_slice(), b.max_in_flight), (["m".to_owned()].as_slice(), 1024));
}

#[test]
fn variables_are_put_in() {
    let text = format!("{GOOD}[log]\npseudonym_key = \"${{KEY}}-${{NONE:-x}}\"\n");
    let vars = Vars::from([("KEY", "k"), ("LOG_LEVEL", "debug")]);
    let config = Config::parse(&text, Path::new("."), &vars).unwrap();
    assert_eq!(config.log.pseudonym_key, "k-x");
    assert_eq!(config.log.level, record::Severity::DEBUG, "LOG_LEVEL wins, in any case");
    expect![[r#"
        log.pseudonym_key: the variable KEY is not set: set it in the environment or in .env, or write ${KEY:-default}
        LOG_LEVEL: "loud" is not a log level: write DEBUG, INFO, WARNING, ERROR or CRITICAL
    "#]]
    .assert_eq(&problems(&text, &Vars::from([("LOG_LEVEL", "loud")])));
}

#[test]
fn a_file_that_is_no_toml_is_located_and_not_shown() {
    let vars = Vars::default();
    expect![[r#"
        line 1, column 5: unclosed table, expected `]`
    "#]]
    .assert_eq(&problems("[log", &vars));
    let check = |line: &str| {
        let said = problems(&format!("[log]\n\n[admin]\n{line}\n"), &vars);
        assert!(said.starts_with("line ") && !said.contains("topsecret"), "{said}");
    };
    check("key = \"topsecret");
    check("key = topsecret");
    check("key = \"x\" topsecret");
    check("key == \"topsecret\"");
}

#[test]
fn what_the_server_and_the_log_are_told_is_checked() {
    check(
        r#"
[server]
tenant_header = "X-Tenant"
served_model_names = ["gpt", ""]
api_keys = ["0123456789abcdef", "short"]
image_hosts = ["images.example.com", "https://example.com"]
[log]
always = ["redcat"]
watch = "yes"
rollback_after = 1_000_001
replay = ""
[admin]
listen = "8001"
kye = "x"
"#,
        expect![[r#"
            log.watch: expected true or false, found a string
            log.rollback_after: 1000001 is not between 0 and 1000000
            admin.kye: unknown key; did you mean "key"?
            log.always[0]: no plugin named "redcat"; did you mean "redact"?
            server.tenant_header: "X-Tenant" is not the name of a header in lower case: write one, as in "x-tenant"
            server.image_hosts[1]: "https://example.com" is not the name of a host: write one, as in "images.example.com"
            server.served_model_names[1]: empty: write a name, or "*" for every name
            server.api_keys[1]: not fit for a key: write at least 16 letters, digits and signs of ASCII, as in "${API_KEY}"; openssl rand -hex 16 makes them
            log.replay: empty: write the path of a file of records, or remove it
            admin.listen: "8001" is not an address: write IP:PORT, as in "127.0.0.1:8001"
            admin.key: missing: write one, as in "${ADMIN_KEY}"; openssl rand -hex 16 makes it
        "#]],
    );
    check(
        "[server]\nlisten = \"127.0.0.1:8001\"\n[admin]\nkey = \"0123456789abcdef\"",
        expect![[r#"
            admin.listen: server.listen has this address: write another port
        "#]],
    );
}

#[test]
fn what_is_not_said_has_a_default_and_paths_are_relative_to_the_file() {
    let config = good("");
    assert_eq!(config.server.tenant_header, "x-tenant");
    assert!(config.admin.is_none());
    let log = &config.log;
    assert!(log.watch && !log.response_deltas && log.always.is_empty() && log.replay.is_none());
    assert_eq!((&log.cache, log.rollback_after), (&CacheFolder::Default, 20));

    let cache = |text: &str| good(&format!("[log]\ncache = {text:?}")).log.cache;
    assert_eq!(cache(""), CacheFolder::Off);
    assert_eq!(cache("cache"), CacheFolder::At("/etc/cache".into()));
    assert_eq!(cache("/var/cache/x"), CacheFolder::At("/var/cache/x".into()));
    let replay = good("[log]\nreplay = \"day.jsonl\"").log.replay;
    assert_eq!(replay.as_deref(), Some(Path::new("/etc/day.jsonl")));

    let admin = good("[admin]\nkey = \"0123456789abcdef\"").admin.unwrap();
    assert_eq!(admin.listen.to_string(), "127.0.0.1:8001");
    assert_eq!(format!("{admin:?}"), "Admin { listen: 127.0.0.1:8001, .. }");
}

#[test]
fn a_key_is_long_enough_fits_into_a_header_and_is_not_repeated() {
    let check = |key: &str, want: &str| {
        let text = format!("{GOOD}[admin]\nkey = {key:?}");
        let said = problems(&text, &Vars::default());
        assert!(said.contains(want), "{said}");
        assert!(key.is_empty() || !said.contains(key), "{said}");
    };
    check("", "admin.key: missing: ");
    check("hunter2hunter2!", "admin.key: too short to be safe: write at least 16 characters");
    check("비밀번호비밀번호", "admin.key: too short to be safe");
    check("비밀번호비밀번호비밀번호비밀번호", "admin.key: it comes in a header: ");
    check("correct horse battery", "admin.key: it comes in a header: ");
    check(&"x".repeat(257), "admin.key: too long for a header: write at most 256");
    check(&"x".repeat(256), "good");
    check("hunter2hunter2!?", "good");
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

#[test]
fn every_example_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configs");
    let vars = Vars::from([
        ("ALERT_WEBHOOK", "https://hooks.example.com/services/abc"),
        ("PSEUDONYM_KEY", "0123456789abcdef"),
        ("ADMIN_KEY", "0123456789abcdef"),
        ("VLLM_API_KEY", "sk-0123"),
    ]);
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(problems(&text, &vars), "good", "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}
