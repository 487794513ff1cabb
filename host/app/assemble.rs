//! From a configuration, its plugins and its outputs to chains; and to the engine's own terms.

use std::sync::Arc;

use chain::{Chains, Output, Replacer, ShadowSpec, Spec};
use store::Store;

use crate::{
    builtin,
    config::{self, Config, DEFAULT_CHAIN, Problems},
    outputs::Outputs,
    plugins::Plugins,
    revision::Kept,
    stored,
};

/// The chains of a revision, and with them everything that was made for it. `store` is the one that was opened at the start.
pub fn chains(kept: Kept, store: Option<&Arc<Store>>) -> Chains {
    let (config, plugins, outputs) = (&kept.config, &kept.plugins, &kept.outputs);
    let keeping = stored::keeping(config, store);
    let keeps = |name: &str| keeping.as_ref().and_then(|it| it.chain.as_deref()) == Some(name);
    let chains = config
        .chains
        .iter()
        // A shadow that nothing else uses writes nowhere, and is part of the chain that it shadows.
        .filter(|it| !it.outputs.is_empty() || keeps(&it.name))
        .map(|it| (Arc::from(it.name.as_str()), spec(it, config, plugins, outputs)));
    Chains {
        chains: chains.collect(),
        keeping,
        default: DEFAULT_CHAIN.into(),
        outputs: outputs.all(),
        replacer: replacer(&config.log),
        level: config.log.level,
        failures_max: config.log.rollback_after,
        taken_over: plugins.taken_over(),
        kept: Arc::new(kept),
    }
}

/// A chain of loaded plugins and open outputs; outputs of one format share one formatter.
pub fn spec(chain: &config::Chain, config: &Config, plugins: &Plugins, open: &Outputs) -> Spec {
    let mut by_format: Vec<(&str, Vec<Arc<Output>>)> = Vec::new();
    for output in
        chain.outputs.iter().filter_map(|name| config.outputs.iter().find(|it| it.name == *name))
    {
        let Some(near) = open.get(&output.name).cloned() else { continue };
        match by_format.iter_mut().find(|(it, _)| *it == output.format) {
            Some((_, outputs)) => outputs.push(near),
            None => by_format.push((&output.format, vec![near])),
        }
    }
    let shadow = chain.shadow.as_ref().and_then(|shadow| {
        let editors = config.chains.iter().find(|it| it.name == shadow.chain)?;
        Some(ShadowSpec {
            name: shadow.chain.as_str().into(),
            editors: editors.edit.iter().filter_map(|it| plugins.get(it)?.editor()).collect(),
            share: shadow.share,
        })
    });
    Spec {
        name: chain.name.as_str().into(),
        editors: chain.edit.iter().filter_map(|it| plugins.get(it)?.editor()).collect(),
        handlers: chain.handle.iter().filter_map(|it| plugins.get(it)?.handler()).collect(),
        outputs: by_format
            .into_iter()
            .filter_map(|(format, outputs)| Some((plugins.get(format)?.formatter()?, outputs)))
            .collect(),
        shadow,
    }
}

/// What takes the place of what plugins take out.
pub fn replacer(config: &config::Log) -> Replacer {
    let random;
    let key = match config.pseudonym_key.as_bytes() {
        // No key: pseudonyms of this run only. Two random UUIDs hold 244 random bits.
        [] => {
            random = RUN_KEY.get_or_init(|| {
                [uuid::Uuid::new_v4().into_bytes(), uuid::Uuid::new_v4().into_bytes()].concat()
            });
            random.as_slice()
        }
        key => key,
    };
    Replacer::new(config.ellipsis, key)
}

/// The key of a run without a configured one: the same in all of its revisions.
static RUN_KEY: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();

/// The engine's part of a configuration, in its own terms.
pub fn engine_config(config: &config::Engine) -> Result<engine::Config, Problems> {
    let mut problems = Problems::default();
    let model = match &config.model {
        config::Model::Demo => engine::ModelSource::Embedded(builtin::DEMO),
        config::Model::Folder(it) => engine::ModelSource::Folder(it.clone()),
        config::Model::Gguf(it) => engine::ModelSource::Gguf(it.clone()),
        config::Model::Hub(it) => engine::ModelSource::Hub(it.clone()),
        config::Model::DemoKorean => {
            problems.add("engine.model", "demo-ko is an adapter: write model = \"demo\"");
            engine::ModelSource::Embedded(builtin::DEMO)
        }
    };
    let mut adapters = Vec::with_capacity(config.adapters.len());
    for (name, source) in &config.adapters {
        let source = match source {
            config::Model::DemoKorean => engine::AdapterSource::Embedded(builtin::DEMO_KOREAN),
            config::Model::Folder(it) => engine::AdapterSource::Folder(it.clone()),
            other => {
                let message = format!(
                    "{other:?} is not an adapter: write the path of a folder with an adapter_config.json"
                );
                problems.add(format!("engine.adapters.{name}"), message);
                continue;
            }
        };
        adapters.push(engine::Adapter { name: name.clone(), source });
    }
    let own_name = (config.model == config::Model::Demo).then(|| "demo".to_owned());
    let engine = engine::Config {
        model,
        name: config.name.clone().or(own_name),
        adapters,
        devices: config.devices.clone(),
        dtype: config.dtype,
        queue: config.queue,
        max_num_seqs: config.max_num_seqs,
        max_num_batched_tokens: config.max_num_batched_tokens,
        image_tokens: config.image_tokens,
        kv_cache_bytes: config.kv_cache_bytes,
        gpu_memory_utilization: config.gpu_memory_utilization,
        prefix_caching: config.prefix_caching,
        adapter_fallback: config.adapter_fallback,
        threads: config.threads,
        dequantize: config.dequantize,
        nvml_library: config.nvml_library.clone(),
        before_step: None,
    };
    if problems.0.is_empty() { Ok(engine) } else { Err(problems) }
}
