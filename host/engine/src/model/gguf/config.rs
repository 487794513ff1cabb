//! What the metadata of a GGUF file says of a decoder. A key that changes what a model computes and that nothing here reads is
//! refused, as in a config.json.

use candle_core::quantized::gguf_file::{Content, Value};

use crate::{
    error::LoadError,
    model::{
        MAX_CONTEXT,
        config::{DecoderConfig, Kind},
        rope::{Rope, Scaling},
    },
    tokenizer::gguf::{Metadata, number, text},
};

const ARCHITECTURES: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Keys that are read, after the name of the architecture.
const READ: [&str; 18] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
];

/// Keys that repeat what tensors say, or that change nothing.
const HARMLESS: [&str; 5] = [
    "expert_used_count",
    "feed_forward_length",
    "rope.scaling.finetuned",
    "tensor_data_layout",
    "vocab_size",
];

/// The keys of one architecture.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
}

/// Refuses what would be ignored and come out wrong.
pub(super) fn read(content: &Content) -> Result<(Kind, DecoderConfig), LoadError> {
    let metadata = &content.metadata;
    let architecture = text(metadata, "general.architecture").unwrap_or("(none)");
    let kind = Kind::of(architecture).filter(|_| ARCHITECTURES.contains(&architecture));
    let kind = kind.ok_or_else(|| LoadError::UnknownFamily {
        found: format!("GGUF architecture {architecture:?}"),
        known: ARCHITECTURES.join(", "),
    })?;
    let keys = Keys { metadata, architecture };
    keys.check()?;
    let whole = |name: &str| keys.whole(name);
    if whole("expert_count") > 1 {
        return Err(LoadError::Unsupported {
            feature: "a mixture of experts".to_owned(),
            instead: "use a dense model",
        });
    }
    let hidden = whole("embedding_length");
    let heads = whole("attention.head_count");
    let or = |name: &str, otherwise: usize| match whole(name) {
        0 => otherwise,
        some => some,
    };
    let key_value_heads = or("attention.head_count_kv", heads);
    let head = or("attention.key_length", hidden.checked_div(heads).unwrap_or(0));
    let turned = or("rope.dimension_count", head);
    let values = or("attention.value_length", head);
    let layers = whole("block_count");
    let fits = heads > 0 && head > 0 && head.is_multiple_of(2) && layers > 0;
    if !fits || !heads.is_multiple_of(key_value_heads) || turned != head || values != head {
        return Err(wrong(format!(
            "{hidden} hidden, {heads} heads and {key_value_heads} key-value heads do not fit"
        )));
    }
    let has = |name: &str| content.tensor_infos.contains_key(name);
    let rows = |name: &str| {
        let info = content.tensor_infos.get(name);
        let dims = info.map(|info| info.shape.dims().to_vec()).unwrap_or_default();
        dims.first().copied().ok_or(LoadError::MissingTensor { name: name.to_owned() })
    };
    let window = Some(whole("attention.sliding_window")).filter(|window| *window > 0);
    let context = or("context_length", 4096);
    let config = DecoderConfig {
        vocabulary: rows("token_embd.weight")?,
        hidden,
        inner: rows("blk.0.ffn_gate.weight")?,
        heads,
        key_value_heads,
        head,
        context: context.min(MAX_CONTEXT),
        eps: f64::from(keys.float("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5)),
        tied: !has("output.weight"),
        qkv_bias: has("blk.0.attn_q.bias"),
        output_bias: has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_gate.bias"),
        head_norms: has("blk.0.attn_q_norm.weight"),
        windows: vec![window; layers],
        rope: keys.rope(head, context)?,
    };
    Ok((kind, config))
}

impl Keys<'_> {
    fn check(&self) -> Result<(), LoadError> {
        let own = self.metadata.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix(self.architecture)?.strip_prefix('.')?, value))
        });
        let unread = own.filter(|(key, value)| {
            !READ.contains(key) && !HARMLESS.contains(key) && !is_default(key, value)
        });
        match unread.map(|(key, _)| key).min() {
            Some(key) => Err(self.unsupported(key)),
            None => Ok(()),
        }
    }

    /// How positions turn, as llama.cpp takes it: a factor without a type is a linear one, and a type without a factor is none.
    fn rope(&self, head: usize, context: usize) -> Result<Rope, LoadError> {
        let theta = self.float("rope.freq_base")?.unwrap_or(10_000.0);
        let factor = match self.float("rope.scaling.factor")? {
            None => self.float("rope.scale_linear")?,
            some => some,
        };
        let kind = text(self.metadata, &self.key("rope.scaling.type")).unwrap_or("linear");
        let scaling = match (kind, factor) {
            ("none", _) | ("linear" | "yarn", None) => Scaling::Plain,
            ("linear", Some(factor)) => Scaling::Linear { factor },
            ("yarn", Some(factor)) => {
                let original = match self.whole("rope.scaling.original_context_length") {
                    0 => context,
                    some => some,
                };
                Scaling::Yarn {
                    factor,
                    attention: Scaling::yarn_length(factor),
                    fast: self.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                    slow: self.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                    original: original as f32,
                    truncate: true,
                }
            }
            (other, _) => {
                return Err(self.unsupported(&format!("rope.scaling.type {other:?}")));
            }
        };
        Ok(Rope::new(theta, scaling, head))
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// 0 where there is none.
    fn whole(&self, name: &str) -> usize {
        let number = number(self.metadata, &self.key(name));
        number.and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    /// A number above 0; none where there is none, or 0.
    fn float(&self, name: &str) -> Result<Option<f32>, LoadError> {
        let value = match self.metadata.get(&self.key(name)) {
            None => return Ok(None),
            Some(value) => as_float(value),
        };
        match value {
            Some(0.0) => Ok(None),
            Some(value) if value > 0.0 && value.is_finite() => Ok(Some(value)),
            _ => Err(wrong(format!("{} is no number above 0", self.key(name)))),
        }
    }

    fn unsupported(&self, name: &str) -> LoadError {
        LoadError::Unsupported {
            feature: format!("{} in a GGUF file", self.key(name)),
            instead: "use the safetensors folder of the model",
        }
    }
}

/// Whether a key that nothing reads says what would be done without it.
fn is_default(key: &str, value: &Value) -> bool {
    match key {
        "attention.causal" => matches!(value, Value::Bool(true)),
        "rope.scaling.attn_factor"
        | "rope.scaling.yarn_attn_factor"
        | "rope.scaling.yarn_ext_factor" => as_float(value) == Some(1.0),
        // Embeddings are the last token's here as well.
        "pooling_type" => matches!(value.to_u32(), Ok(0 | 3)),
        _ => match value {
            Value::Bool(on) => !on,
            other => as_float(other) == Some(0.0),
        },
    }
}

fn as_float(value: &Value) -> Option<f32> {
    match value {
        Value::F32(value) => Some(*value),
        Value::F64(value) => Some(*value as f32),
        other => other.to_u64().ok().map(|value| value as f32),
    }
}

fn wrong(reason: String) -> LoadError {
    LoadError::Config { file: "the GGUF file".to_owned(), reason }
}
