//! The Llama family, and the decoder that vision models put behind their towers.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, Llama3RopeConfig, Llama3RopeType};
use serde_json::Value;

use super::{CHUNK, MAX_CONTEXT, Parts, Prompt, Solo, bad_config, check_tensors, count};
use crate::error::{EngineError, LoadError};

pub(super) fn build(parts: Parts<'_>) -> Result<Box<dyn Solo>, LoadError> {
    let config = text_config(parts.config)?;
    check_tensors(&parts.tensors, expected_tensors(&config, ""))?;
    let vb = VarBuilder::from_tensors(parts.tensors, parts.dtype, parts.device);
    Ok(Box::new(LlamaModel { decoder: Decoder::new(vb, &config, parts.device, parts.dtype)? }))
}

struct LlamaModel {
    decoder: Decoder,
}

impl Solo for LlamaModel {
    fn family(&self) -> &'static str {
        "llama"
    }

    fn context(&self) -> usize {
        self.decoder.context
    }

    fn prefill(&mut self, prompt: &Prompt<'_>) -> Result<Tensor, EngineError> {
        let embedded = self.decoder.embed(prompt.tokens)?;
        self.decoder.prefill(&embedded, prompt.interrupted)
    }

    fn step(&mut self, token: u32) -> Result<Tensor, EngineError> {
        self.decoder.step(token)
    }

    fn reset(&mut self) {
        self.decoder.reset();
    }
}

/// A Llama and the keys and values of one text.
pub(super) struct Decoder {
    llama: Llama,
    /// Never written to. Its copies share the tables of positions, and start without the masks that candle keeps for every
    /// length it has seen.
    blank: Cache,
    cache: Cache,
    /// How many tokens are in the cache.
    position: usize,
    /// How many can be.
    pub(super) context: usize,
    device: Device,
}

impl Decoder {
    pub(super) fn new(
        vb: VarBuilder<'_>,
        config: &Config,
        device: &Device,
        dtype: DType,
    ) -> Result<Self, LoadError> {
        let llama = Llama::load(vb, config)?;
        let blank = Cache::new(true, dtype, config, device)?;
        Ok(Self {
            llama,
            cache: blank.clone(),
            blank,
            position: 0,
            context: config.max_position_embeddings,
            device: device.clone(),
        })
    }

    /// Embeddings of tokens: (1, tokens, hidden).
    pub(super) fn embed(&self, tokens: &[u32]) -> Result<Tensor, EngineError> {
        let ids = Tensor::new(tokens, &self.device)?.unsqueeze(0)?;
        Ok(self.llama.embed(&ids)?)
    }

    /// Reads embeddings of shape (1, tokens, hidden) as a new text. Returns logits of shape (vocabulary,).
    pub(super) fn prefill(
        &mut self,
        embedded: &Tensor,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError> {
        self.reset();
        let (_, length, _) = embedded.dims3()?;
        if length > self.context {
            return Err(EngineError::PromptTooLong { tokens: length, context: self.context });
        }
        let mut logits = None;
        while self.position < length {
            if logits.is_some() && interrupted() {
                return Err(EngineError::Cancelled);
            }
            let size = CHUNK.min(length - self.position);
            let chunk = embedded.narrow(1, self.position, size)?.contiguous()?;
            logits =
                Some(self.llama.forward_input_embed(&chunk, self.position, &mut self.cache)?);
            self.position += size;
        }
        let logits = logits.ok_or_else(|| EngineError::Internal("the prompt is empty".into()))?;
        Ok(logits.squeeze(0)?)
    }

    pub(super) fn step(&mut self, token: u32) -> Result<Tensor, EngineError> {
        if self.position >= self.context {
            return Err(EngineError::Internal("the context is full".into()));
        }
        let ids = Tensor::new(&[token], &self.device)?.unsqueeze(0)?;
        let logits = self.llama.forward(&ids, self.position, &mut self.cache)?;
        self.position += 1;
        Ok(logits.squeeze(0)?)
    }

    pub(super) fn reset(&mut self) {
        self.cache = self.blank.clone();
        self.position = 0;
    }
}

/// The decoder's part of a config.json, as transformers of any version writes it. What candle would ignore and get wrong is
/// refused.
pub(super) fn text_config(raw: &Value) -> Result<Config, LoadError> {
    let hidden_size = count(raw, "hidden_size", 4096)?;
    let heads = count(raw, "num_attention_heads", 32)?;
    let key_value_heads = count(raw, "num_key_value_heads", heads)?;
    if !hidden_size.is_multiple_of(heads) || !heads.is_multiple_of(key_value_heads) {
        return Err(bad_config(format!(
            "{hidden_size} hidden, {heads} heads and {key_value_heads} key-value heads do not divide"
        )));
    }
    let head_size = hidden_size / heads;
    if count(raw, "head_dim", head_size)? != head_size || !head_size.is_multiple_of(2) {
        return Err(unsupported("a head_dim other than hidden_size / num_attention_heads"));
    }
    for key in ["attention_bias", "mlp_bias"] {
        if raw.get(key).and_then(Value::as_bool) == Some(true) {
            return Err(unsupported(key));
        }
    }
    if let Some(activation) = raw.get("hidden_act").and_then(Value::as_str)
        && activation != "silu"
    {
        return Err(unsupported(&format!("hidden_act {activation:?}")));
    }
    let (rope_theta, rope_scaling) = rope(raw)?;
    Ok(Config {
        hidden_size,
        intermediate_size: count(raw, "intermediate_size", 11008)?,
        vocab_size: count(raw, "vocab_size", 32000)?,
        num_hidden_layers: count(raw, "num_hidden_layers", 32)?,
        num_attention_heads: heads,
        num_key_value_heads: key_value_heads,
        use_flash_attn: false,
        rms_norm_eps: raw.get("rms_norm_eps").and_then(Value::as_f64).unwrap_or(1e-6),
        rope_theta,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling,
        max_position_embeddings: count(raw, "max_position_embeddings", 2048)?.min(MAX_CONTEXT),
        tie_word_embeddings: raw
            .get("tie_word_embeddings")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    })
}

/// Rotary positions: the base, and Llama 3's stretching of it. transformers 5 puts both into `rope_parameters`; older
/// versions write `rope_theta` and `rope_scaling`.
fn rope(raw: &Value) -> Result<(f32, Option<Llama3RopeConfig>), LoadError> {
    let object = |key: &str| raw.get(key).filter(|value| value.is_object());
    let parameters = object("rope_parameters");
    let scaling = parameters.or_else(|| object("rope_scaling"));
    let theta = parameters
        .and_then(|parameters| parameters.get("rope_theta"))
        .or_else(|| raw.get("rope_theta"))
        .and_then(Value::as_f64)
        .unwrap_or(10_000.0) as f32;
    let Some(scaling) = scaling else { return Ok((theta, None)) };

    if scaling.get("partial_rotary_factor").and_then(Value::as_f64).unwrap_or(1.0) != 1.0 {
        return Err(unsupported("partial_rotary_factor"));
    }
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str);
    match kind {
        None | Some("default") => Ok((theta, None)),
        Some("llama3") => {
            let number = |key: &str| {
                let value = scaling.get(key).and_then(Value::as_f64).filter(|value| *value > 0.0);
                value.ok_or_else(|| bad_config(format!("llama3 positions need {key}")))
            };
            let llama3 = Llama3RopeConfig {
                factor: number("factor")? as f32,
                low_freq_factor: number("low_freq_factor")? as f32,
                high_freq_factor: number("high_freq_factor")? as f32,
                original_max_position_embeddings: number("original_max_position_embeddings")?
                    as usize,
                rope_type: Llama3RopeType::Llama3,
            };
            Ok((theta, Some(llama3)))
        }
        Some(other) => Err(unsupported(&format!("rope_type {other:?}"))),
    }
}

fn unsupported(feature: &str) -> LoadError {
    LoadError::Unsupported {
        feature: feature.to_owned(),
        instead: "use a model without it, or add it to the decoder",
    }
}

/// Every tensor that the decoder loads, with its shape.
pub(super) fn expected_tensors(config: &Config, prefix: &str) -> Vec<(String, Vec<usize>)> {
    let hidden = config.hidden_size;
    let inner = config.intermediate_size;
    let key_value = hidden / config.num_attention_heads * config.num_key_value_heads;
    let mut tensors = vec![
        (format!("{prefix}model.embed_tokens.weight"), vec![config.vocab_size, hidden]),
        (format!("{prefix}model.norm.weight"), vec![hidden]),
    ];
    if !config.tie_word_embeddings {
        tensors.push((format!("{prefix}lm_head.weight"), vec![config.vocab_size, hidden]));
    }
    for layer in 0..config.num_hidden_layers {
        for (name, shape) in [
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![key_value, hidden]),
            ("self_attn.v_proj", vec![key_value, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
        ] {
            tensors.push((format!("{prefix}model.layers.{layer}.{name}.weight"), shape));
        }
    }
    tensors
}
