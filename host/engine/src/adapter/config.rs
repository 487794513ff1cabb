//! What adapter_config.json asks for. PEFT writes every setting that it has, so a key is either read here, or changes nothing for
//! a trained adapter, or must not be set.

use serde_json::Value;

use super::AdapterError;

/// Keys that are read.
const READ: [&str; 8] = [
    "alpha_pattern",
    "bias",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "use_rslora",
];

/// Keys of training and of where things come from, and those that say which modules have pairs: the tensors say it as well.
const HARMLESS: [&str; 18] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
];

/// Ways to begin the training that leave the model's own weights as they are. After any other, an adapter belongs to changed ones.
const BEGINNINGS: [&str; 3] = ["eva", "gaussian", "orthogonal"];

/// What is needed of adapter_config.json.
#[derive(Debug, PartialEq)]
pub(super) struct LoraConfig {
    alpha: f64,
    /// Other alphas for some modules, by the end of their names.
    alphas: Vec<(String, f64)>,
    rank: Option<usize>,
    /// As [`Self::alphas`]. None where a pattern is no plain name: then ranks are what the tensors say.
    ranks: Option<Vec<(String, usize)>>,
    /// Rank-stabilized: divides by the root of the rank.
    rslora: bool,
}

impl LoraConfig {
    pub(super) fn new(config: &Value) -> Result<Self, AdapterError> {
        let kind = config.get("peft_type").and_then(Value::as_str).unwrap_or("(none)");
        if kind != "LORA" {
            return Err(AdapterError::Unsupported(format!("peft_type {kind}")));
        }
        check_keys(config)?;
        let alpha = config
            .get("lora_alpha")
            .and_then(Value::as_f64)
            .ok_or_else(|| AdapterError::Config("it has no number lora_alpha".into()))?;
        let alphas = patterns(config, "alpha_pattern")?
            .into_iter()
            .map(|(name, alpha)| match alpha.as_f64() {
                Some(alpha) if is_plain(name) => Ok((name.to_owned(), alpha)),
                _ => Err(AdapterError::Unsupported(format!("alpha_pattern {name:?}"))),
            })
            .collect::<Result<_, _>>()?;
        let rank = match config.get("r") {
            None | Some(Value::Null) => None,
            Some(rank) => Some(
                whole(rank).ok_or_else(|| AdapterError::Config(format!("r is {rank}, no rank")))?,
            ),
        };
        let ranks = patterns(config, "rank_pattern")?
            .into_iter()
            .map(|(name, rank)| Some((name.to_owned(), whole(rank).filter(|_| is_plain(name))?)))
            .collect();
        let rslora = match config.get("use_rslora") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(on)) => *on,
            Some(other) => return Err(AdapterError::Config(format!("use_rslora is {other}"))),
        };
        Ok(Self { alpha, alphas, rank, ranks, rslora })
    }

    /// What the product of a module's pair of this rank is multiplied by.
    pub(super) fn scale(&self, module: &str, rank: usize) -> Result<f64, AdapterError> {
        if let (Some(all), Some(ranks)) = (self.rank, &self.ranks) {
            let expected = own(ranks, module).unwrap_or(all);
            if rank != expected {
                let module = module.to_owned();
                return Err(AdapterError::Rank { module, expected, found: rank });
            }
        }
        let alpha = own(&self.alphas, module).unwrap_or(self.alpha);
        let rank = rank as f64;
        Ok(alpha / if self.rslora { rank.sqrt() } else { rank })
    }
}

fn check_keys(config: &Value) -> Result<(), AdapterError> {
    for (key, value) in config.as_object().into_iter().flatten() {
        let known = READ.contains(&key.as_str()) || HARMLESS.contains(&key.as_str());
        if !known && is_set(value) {
            return Err(AdapterError::Unsupported(key.clone()));
        }
    }
    let bias = config.get("bias").filter(|it| is_set(it));
    if let Some(bias) = bias.filter(|it| it.as_str() != Some("none")) {
        return Err(AdapterError::Unsupported(format!("bias {bias}")));
    }
    let known = |it: &Value| {
        it.is_boolean() || it.is_null() || it.as_str().is_some_and(|it| BEGINNINGS.contains(&it))
    };
    match config.get("init_lora_weights").filter(|it| !known(it)) {
        Some(other) => Err(AdapterError::Unsupported(format!(
            "init_lora_weights {other}, which changes the model's own weights"
        ))),
        None => Ok(()),
    }
}

/// Values by the modules that they are for, in the order of the file: the first that fits counts.
fn patterns<'a>(config: &'a Value, key: &str) -> Result<Vec<(&'a str, &'a Value)>, AdapterError> {
    match config.get(key) {
        Some(Value::Object(map)) => Ok(map.iter().map(|(name, it)| (name.as_str(), it)).collect()),
        Some(other) if is_set(other) => {
            Err(AdapterError::Config(format!("{key} is {other}, no object")))
        }
        _ => Ok(Vec::new()),
    }
}

/// Of a module, by the first name that it has or ends with.
fn own<T: Copy>(values: &[(String, T)], module: &str) -> Option<T> {
    let found = values.iter().find(|(name, _)| {
        module
            .strip_suffix(name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    found.map(|(_, value)| *value)
}

/// PEFT takes patterns for regular expressions; a name is one that means itself.
fn is_plain(name: &str) -> bool {
    name.chars().all(|it| it.is_alphanumeric() || "_.-".contains(it))
}

fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|it| usize::try_from(it).ok())
}

/// Whether a setting of adapter_config.json asks for something.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => true,
    }
}
