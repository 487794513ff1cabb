//! The engine, here or elsewhere: devices, room, and other servers.

use std::path::Path;

use expect_test::expect;

use super::{Config, GOOD, Vars, check, good};

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
