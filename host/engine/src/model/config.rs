//! What the decoder's part of a config.json means, as transformers of any version writes it.
//!
//! A key that changes what a model computes and that nothing here reads is refused, not ignored: the answers would be wrong,
//! and nobody could see why.

use serde_json::Value;

use super::{MAX_CONTEXT, bad_config, count, flag, number, rope::Rope, unsupported};
use crate::error::LoadError;

/// The shape of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DecoderConfig {
    pub(super) vocabulary: usize,
    pub(super) hidden: usize,
    /// Width of the gated layer.
    pub(super) inner: usize,
    pub(super) heads: usize,
    pub(super) key_value_heads: usize,
    pub(super) head: usize,
    pub(super) context: usize,
    pub(super) eps: f64,
    /// The embeddings are the last layer as well.
    pub(super) tied: bool,
    /// Of the projections to queries, keys and values.
    pub(super) qkv_bias: bool,
    pub(super) output_bias: bool,
    pub(super) mlp_bias: bool,
    /// Queries and keys are normalized, head by head.
    pub(super) head_norms: bool,
    /// For each layer: how many tokens it looks back on, the token itself included.
    pub(super) windows: Vec<Option<usize>>,
    pub(super) rope: Rope,
}

/// What the families of decoders do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    /// What reads the images of Qwen3-VL: a Qwen3 whose positions have three coordinates.
    Qwen3Vl,
}

/// Keys that are read, by every family.
const READ: [&str; 17] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "model_type",
    "attention_bias",
    "mlp_bias",
];

/// Keys of training, of how transformers runs a model, of text generation, and ones that repeat what others say. None of them
/// changes what one forward pass computes.
const HARMLESS: [&str; 50] = [
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "initializer_range",
    "is_llama_config",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "sep_token_id",
    "task_specific_params",
    "temperature",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

impl Kind {
    /// By the `model_type` of a config.json, for those that can stand alone.
    pub(super) fn of(model_type: &str) -> Option<Self> {
        Some(match model_type {
            "llama" => Self::Llama,
            "mistral" => Self::Mistral,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Qwen3Vl => "qwen3_vl_text",
        }
    }

    /// Keys that only this family has.
    fn own_keys(self) -> &'static [&'static str] {
        match self {
            Self::Llama | Self::Qwen3Vl => &[],
            Self::Mistral => &["sliding_window"],
            Self::Qwen2 | Self::Qwen3 => {
                &["sliding_window", "use_sliding_window", "max_window_layers", "layer_types"]
            }
        }
    }
}

impl DecoderConfig {
    /// Reads `raw` as transformers would: with its defaults where a key is missing.
    pub(super) fn read(kind: Kind, raw: &Value) -> Result<Self, LoadError> {
        check_family(kind, raw)?;
        let or = |llama: usize, mistral: usize, qwen: usize| match kind {
            Kind::Llama => llama,
            Kind::Mistral => mistral,
            Kind::Qwen2 | Kind::Qwen3 | Kind::Qwen3Vl => qwen,
        };
        let is_qwen3 = matches!(kind, Kind::Qwen3 | Kind::Qwen3Vl);
        let hidden = count(raw, "hidden_size", 4096)?;
        let heads = count(raw, "num_attention_heads", 32)?;
        let few = match kind {
            Kind::Llama => heads,
            Kind::Mistral => 8,
            Kind::Qwen2 | Kind::Qwen3 | Kind::Qwen3Vl => 32,
        };
        let key_value_heads = count(raw, "num_key_value_heads", few)?;
        let head = if is_qwen3 { 128 } else { hidden / heads };
        let head = count(raw, "head_dim", head.max(1))?;
        if !heads.is_multiple_of(key_value_heads) || !head.is_multiple_of(2) {
            return Err(bad_config(format!(
                "{heads} heads of {head} and {key_value_heads} key-value heads do not fit together"
            )));
        }
        if let Some(activation) = raw.get("hidden_act").filter(|it| !it.is_null())
            && activation != "silu"
        {
            return Err(unsupported(&format!("hidden_act {activation}")));
        }
        let layers = count(raw, "num_hidden_layers", 32)?;
        let places = if kind == Kind::Qwen3Vl { 128_000 } else { or(2048, 4096 * 32, 32_768) };
        let places = count(raw, "max_position_embeddings", places)?;
        let rope = match kind {
            Kind::Qwen3Vl => Rope::read_sections(raw, head, places, 500_000.0)?,
            _ => Rope::read(raw, head, places)?,
        };
        let attention_bias = flag(raw, "attention_bias", false)?;
        Ok(Self {
            vocabulary: count(raw, "vocab_size", or(32_000, 32_000, 151_936))?,
            hidden,
            inner: count(raw, "intermediate_size", or(11_008, 14_336, 22_016))?,
            heads,
            key_value_heads,
            head,
            context: places.min(MAX_CONTEXT),
            eps: number(raw, "rms_norm_eps", 1e-6)?,
            tied: flag(raw, "tie_word_embeddings", false)?,
            qkv_bias: attention_bias || kind == Kind::Qwen2,
            output_bias: attention_bias,
            mlp_bias: flag(raw, "mlp_bias", false)?,
            head_norms: is_qwen3,
            windows: windows(kind, raw, layers)?,
            rope,
        })
    }

    pub(super) fn layers(&self) -> usize {
        self.windows.len()
    }
}

fn check_family(kind: Kind, raw: &Value) -> Result<(), LoadError> {
    let what = format!("the config.json of a {} model", kind.name());
    check_keys(raw, &[&READ, kind.own_keys()], &what)?;
    // Of the keys that only some families have, the others must not be asked for them.
    let biased = ["attention_bias", "mlp_bias"].into_iter().find(|key| {
        let has = match kind {
            Kind::Llama => true,
            Kind::Qwen3 | Kind::Qwen3Vl => *key == "attention_bias",
            Kind::Mistral | Kind::Qwen2 => false,
        };
        !has && raw.get(key).and_then(Value::as_bool) == Some(true)
    });
    match biased {
        Some(key) => Err(unsupported(&format!("{key} in a {} model", kind.name()))),
        None => Ok(()),
    }
}

/// Refuses a key that may change what is computed and that nobody reads. `read` has lists of those that are read, and `what` says
/// where `raw` stands.
pub(super) fn check_keys(raw: &Value, read: &[&[&str]], what: &str) -> Result<(), LoadError> {
    let is_read = |key: &str| read.iter().any(|list| list.contains(&key));
    for (key, value) in raw.as_object().into_iter().flatten() {
        if !is_read(key) && !is_harmless(key, value) {
            return Err(unsupported(&format!("{key} in {what}")));
        }
    }
    Ok(())
}

/// Whether a key that nothing reads changes nothing: what is off has no effect, whatever it is.
fn is_harmless(key: &str, value: &Value) -> bool {
    let off = matches!(value, Value::Null | Value::Bool(false))
        || value.as_object().is_some_and(serde_json::Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty);
    off || HARMLESS.contains(&key)
}

fn windows(kind: Kind, raw: &Value, layers: usize) -> Result<Vec<Option<usize>>, LoadError> {
    let window = match raw.get("sliding_window") {
        Some(Value::Null) => None,
        _ => Some(count(raw, "sliding_window", 4096)?),
    };
    match kind {
        Kind::Llama | Kind::Qwen3Vl => Ok(vec![None; layers]),
        Kind::Mistral => Ok(vec![window; layers]),
        Kind::Qwen2 | Kind::Qwen3 => {
            let used = flag(raw, "use_sliding_window", false)?;
            let window = window.filter(|_| used);
            if let Some(types) = raw.get("layer_types").filter(|it| !it.is_null()) {
                let types = types.as_array().filter(|it| it.len() == layers).ok_or_else(|| {
                    bad_config("layer_types is no list with one entry for each layer")
                })?;
                let one = |kind: &Value| match kind.as_str() {
                    Some("full_attention") => Ok(None),
                    Some("sliding_attention") if window.is_some() => Ok(window),
                    _ => Err(unsupported(&format!("layer type {kind}"))),
                };
                return types.iter().map(one).collect();
            }
            let full = match raw.get("max_window_layers") {
                None | Some(Value::Null) => 28,
                Some(full) => full
                    .as_u64()
                    .and_then(|full| usize::try_from(full).ok())
                    .ok_or_else(|| bad_config(format!("max_window_layers is {full}")))?,
            };
            Ok((0..layers).map(|layer| window.filter(|_| layer >= full)).collect())
        }
    }
}
