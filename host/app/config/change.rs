//! What a change of the configuration can bring about only with a new start: the server's address, the model, threads, and
//! where things are kept. Plugins, outputs, chains and routes are not looked at: they can change at any time.

use super::{Admin, Config, Engine, Log, Server, Store};

impl Config {
    /// The keys whose values in `new` differ from those here and that a running server goes on without, in the order of
    /// the file. A table that is new or gone is named as a whole.
    pub fn restart_keys(&self, new: &Self) -> Vec<&'static str> {
        [
            server(&self.server, &new.server),
            engine(&self.engine, &new.engine),
            upstreams(self.upstreams.as_ref(), new.upstreams.as_ref()),
            log(&self.log, &new.log),
            admin(self.admin.as_ref(), new.admin.as_ref()),
            store(self.store.as_ref(), new.store.as_ref()),
        ]
        .concat()
    }
}

fn server(old: &Server, new: &Server) -> Vec<&'static str> {
    // Taken apart, so that a new key is thought of here as well.
    let Server {
        listen,
        limits,
        grace,
        tenant_header,
        served_model_names,
        api_keys,
        ignore_unsupported,
        base64_embeddings,
        runtime_adapters,
    } = old;
    let new_limits = &new.limits;
    different(&[
        ("server.listen", *listen == new.listen),
        ("server.body_mib", limits.body_bytes == new_limits.body_bytes),
        ("server.images", limits.images == new_limits.images),
        ("server.image_megapixels", limits.image_pixels == new_limits.image_pixels),
        ("server.grace_seconds", *grace == new.grace),
        ("server.tenant_header", *tenant_header == new.tenant_header),
        ("server.served_model_names", *served_model_names == new.served_model_names),
        ("server.api_keys", *api_keys == new.api_keys),
        ("server.image_hosts", limits.image_hosts == new_limits.image_hosts),
        ("server.ignore_unsupported", *ignore_unsupported == new.ignore_unsupported),
        ("server.base64_embeddings", *base64_embeddings == new.base64_embeddings),
        ("server.runtime_adapters", *runtime_adapters == new.runtime_adapters),
        ("server.receive_seconds", limits.body_time == new_limits.body_time),
        ("server.request_seconds", limits.request_time == new_limits.request_time),
    ])
}

fn engine(old: &Engine, new: &Engine) -> Vec<&'static str> {
    let Engine {
        model,
        name,
        adapters,
        devices,
        dtype,
        threads,
        queue,
        max_num_seqs,
        max_num_batched_tokens,
        image_tokens,
        kv_cache_bytes,
        gpu_memory_utilization,
        prefix_caching,
        adapter_fallback,
        nvml_library,
        dequantize,
    } = old;
    different(&[
        ("engine.model", *model == new.model),
        ("engine.name", *name == new.name),
        ("engine.adapters", *adapters == new.adapters),
        ("engine.device", *devices == new.devices),
        ("engine.dtype", *dtype == new.dtype),
        ("engine.threads", *threads == new.threads),
        ("engine.queue", *queue == new.queue),
        ("engine.max_num_seqs", *max_num_seqs == new.max_num_seqs),
        ("engine.max_num_batched_tokens", *max_num_batched_tokens == new.max_num_batched_tokens),
        ("engine.image_tokens", *image_tokens == new.image_tokens),
        ("engine.kv_cache_mib", *kv_cache_bytes == new.kv_cache_bytes),
        ("engine.gpu_memory_utilization", *gpu_memory_utilization == new.gpu_memory_utilization),
        ("engine.prefix_caching", *prefix_caching == new.prefix_caching),
        ("engine.adapter_fallback", *adapter_fallback == new.adapter_fallback),
        ("engine.nvml_library", *nvml_library == new.nvml_library),
        ("engine.dequantize", *dequantize == new.dequantize),
    ])
}

fn upstreams(old: Option<&upstream::Config>, new: Option<&upstream::Config>) -> Vec<&'static str> {
    match (old, new) {
        (None, None) => Vec::new(),
        (Some(old), Some(new)) => different(&[
            ("engine.upstream", old.upstreams == new.upstreams),
            ("engine.check_seconds", old.check == new.check),
        ]),
        _ => vec!["engine.kind"],
    }
}

fn log(old: &Log, new: &Log) -> Vec<&'static str> {
    different(&[
        ("log.workers", old.workers == new.workers),
        ("log.queue", old.queue == new.queue),
        ("log.cache", old.cache == new.cache),
        ("log.watch", old.watch == new.watch),
        ("log.response_deltas", old.response_deltas == new.response_deltas),
    ])
}

fn admin(old: Option<&Admin>, new: Option<&Admin>) -> Vec<&'static str> {
    match (old, new) {
        (None, None) => Vec::new(),
        (Some(old), Some(new)) => different(&[
            ("admin.listen", old.listen == new.listen),
            ("admin.key", old.key == new.key),
        ]),
        _ => vec!["admin"],
    }
}

fn store(old: Option<&Store>, new: Option<&Store>) -> Vec<&'static str> {
    match (old, new) {
        (None, None) => Vec::new(),
        (Some(old), Some(new)) => {
            // The chain can change at any time.
            let Store { path, all, chain: _, max_age, max_bytes } = old;
            different(&[
                ("store.path", *path == new.path),
                ("store.all", *all == new.all),
                ("store.max_age_hours", *max_age == new.max_age),
                ("store.max_mib", *max_bytes == new.max_bytes),
            ])
        }
        _ => vec!["store"],
    }
}

/// The keys whose values are not the same.
fn different(same: &[(&'static str, bool)]) -> Vec<&'static str> {
    same.iter().filter(|(_, same)| !same).map(|(key, _)| *key).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::tests::good;

    #[test]
    fn what_cannot_change_while_the_server_runs_is_named() {
        const KEY: &str = "[admin]\nkey = \"0123456789abcdef\"";
        let check = |old: &str, new: &str, want: &[&str]| {
            assert_eq!(good(old).restart_keys(&good(new)), want, "{new}");
        };
        check("", "", &[]);
        check(
            "",
            "[server]\nlisten = \"127.0.0.1:1\"\nbody_mib = 1\nimages = 1\nimage_megapixels = 1\n\
             grace_seconds = 1\nreceive_seconds = 1\ntenant_header = \"x-team\"",
            &[
                "server.listen",
                "server.body_mib",
                "server.images",
                "server.image_megapixels",
                "server.grace_seconds",
                "server.tenant_header",
                "server.receive_seconds",
            ],
        );
        check(
            "",
            "[engine]\nmodel = \"x.gguf\"\nname = \"x\"\nadapters = { ko = \"demo-ko\" }\n\
             device = \"cpu\"\ndtype = \"f32\"\nthreads = 2\nqueue = 2\nnvml_library = \"x\"\ndequantize = true\n\
             max_num_seqs = 2\nmax_num_batched_tokens = 2\nimage_tokens = 999\nkv_cache_mib = 2\nprefix_caching = false\n\
             adapter_fallback = true",
            &[
                "engine.model",
                "engine.name",
                "engine.adapters",
                "engine.device",
                "engine.dtype",
                "engine.threads",
                "engine.queue",
                "engine.max_num_seqs",
                "engine.max_num_batched_tokens",
                "engine.image_tokens",
                "engine.kv_cache_mib",
                "engine.prefix_caching",
                "engine.adapter_fallback",
                "engine.nvml_library",
                "engine.dequantize",
            ],
        );
        check("", "[engine]\ngpu_memory_utilization = 0.5", &["engine.gpu_memory_utilization"]);
        check(
            "[log]\nworkers = 2\nqueue = 100\ncache = \"\"\nresponse_deltas = true",
            "",
            &["log.workers", "log.queue", "log.cache", "log.response_deltas"],
        );
        const FRONT: &str =
            "[engine]\nkind = \"upstream\"\n[[engine.upstream]]\nname = \"a\"\nurl = \"http://a\"";
        check("", FRONT, &["engine.kind"]);
        check(FRONT, FRONT, &[]);
        check(FRONT, &FRONT.replace("http://a", "http://b"), &["engine.upstream"]);
        check(FRONT, &FRONT.replace("[[", "check_seconds = 9\n[["), &["engine.check_seconds"]);
        check("", KEY, &["admin"]);
        check(KEY, "", &["admin"]);
        check(KEY, &KEY.replace("cdef", "0000"), &["admin.key"]);
        check(KEY, &format!("{KEY}\nlisten = \"127.0.0.1:9\""), &["admin.listen"]);
        const STORE: &str = "[store]\npath = \"a.db\"";
        check("", STORE, &["store"]);
        check(STORE, "", &["store"]);
        check(STORE, &format!("{STORE}\nchain = \"default\""), &[]);
        check(
            STORE,
            "[store]\npath = \"b.db\"\nall = true\nmax_age_hours = 1\nmax_mib = 1",
            &["store.path", "store.all", "store.max_age_hours", "store.max_mib"],
        );
        // All of this takes effect in a server that runs.
        check(
            "",
            "handle = []\n[chains.raw]\noutputs = [\"console\"]\n[plugins.json]\n[log]\nlevel = \"DEBUG\"\n\
             locale = \"en\"\nalways = [\"redact\"]\nrollback_after = 1\nreplay = \"x\"\n\
             [[route]]\nwhen = { sample = 0.5 }\nchain = \"raw\"",
            &[],
        );
    }
}
