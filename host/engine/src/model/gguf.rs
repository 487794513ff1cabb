//! Llama models in a GGUF file, with quantized weights.

use std::{fs::File, io::BufReader, path::Path};

use candle_core::{Device, Tensor, quantized::gguf_file::Content};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};

use super::{CHUNK, Prompt, Solo};
use crate::{
    error::{EngineError, LoadError, first_line},
    tokenizer::gguf::{Metadata, number, text},
};

/// An opened file whose weights have not been read yet.
pub(crate) struct Gguf {
    content: Content,
    reader: BufReader<File>,
}

impl Gguf {
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let read = |source| LoadError::Read { path: path.to_owned(), source };
        let mut reader = BufReader::new(File::open(path).map_err(read)?);
        let content = Content::read(&mut reader).map_err(|error| LoadError::Config {
            file: path.display().to_string(),
            reason: first_line(&error),
        })?;
        Ok(Self { content, reader })
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.content.metadata
    }

    pub(crate) fn load(mut self, device: &Device) -> Result<Box<dyn Solo>, LoadError> {
        check(&self.content)?;
        let context = number(self.metadata(), "llama.context_length")
            .and_then(|length| usize::try_from(length).ok())
            .filter(|length| *length > 0)
            .unwrap_or(MAX_SEQ_LEN)
            // candle's table of positions ends there.
            .min(MAX_SEQ_LEN);
        let pristine = ModelWeights::from_gguf(self.content, &mut self.reader, device)?;
        let live = pristine.clone();
        Ok(Box::new(QuantizedLlama {
            pristine,
            live,
            position: 0,
            context,
            device: device.clone(),
        }))
    }
}

/// Refuses what candle would ignore and get wrong, or divide by.
fn check(content: &Content) -> Result<(), LoadError> {
    let metadata = &content.metadata;
    let architecture = text(metadata, "general.architecture").unwrap_or("(none)");
    if architecture != "llama" {
        return Err(LoadError::UnknownFamily {
            found: format!("GGUF architecture {architecture:?}"),
            known: "llama".to_owned(),
        });
    }
    let scaling = text(metadata, "llama.rope.scaling.type").unwrap_or("none");
    if scaling != "none" || content.tensor_infos.contains_key("rope_freqs.weight") {
        return Err(LoadError::Unsupported {
            feature: "stretching of positions in a GGUF file".to_owned(),
            instead: "use the safetensors folder of the model",
        });
    }
    let whole = |key: &str| number(metadata, key).unwrap_or(0);
    let heads = whole("llama.attention.head_count");
    let key_value_heads = whole("llama.attention.head_count_kv");
    let hidden = whole("llama.embedding_length");
    let divides = |n: u64, by: u64| by > 0 && n > 0 && n.is_multiple_of(by);
    if !divides(hidden, heads)
        || !divides(heads, key_value_heads)
        || whole("llama.rope.dimension_count") != hidden / heads
    {
        return Err(LoadError::Config {
            file: "the GGUF file".to_owned(),
            reason: format!(
                "{hidden} hidden, {heads} heads and {key_value_heads} key-value heads do not fit"
            ),
        });
    }
    Ok(())
}

struct QuantizedLlama {
    /// Never run. candle keeps the cache, and a mask for every length it has seen, inside the model; copies share the
    /// weights.
    pristine: ModelWeights,
    live: ModelWeights,
    /// How many tokens are in the cache.
    position: usize,
    context: usize,
    device: Device,
}

impl QuantizedLlama {
    fn forward(&mut self, tokens: &[u32]) -> Result<Tensor, EngineError> {
        let ids = Tensor::new(tokens, &self.device)?.unsqueeze(0)?;
        let logits = self.live.forward(&ids, self.position)?;
        self.position += tokens.len();
        Ok(logits.squeeze(0)?)
    }
}

impl Solo for QuantizedLlama {
    fn family(&self) -> &'static str {
        "llama"
    }

    fn context(&self) -> usize {
        self.context
    }

    fn prefill(&mut self, prompt: &Prompt<'_>) -> Result<Tensor, EngineError> {
        self.reset();
        let tokens = prompt.tokens.len();
        if tokens > self.context {
            return Err(EngineError::PromptTooLong { tokens, context: self.context });
        }
        let mut logits = None;
        for chunk in prompt.tokens.chunks(CHUNK) {
            if logits.is_some() && (prompt.interrupted)() {
                return Err(EngineError::Cancelled);
            }
            logits = Some(self.forward(chunk)?);
        }
        logits.ok_or_else(|| EngineError::Internal("the prompt is empty".into()))
    }

    fn step(&mut self, token: u32) -> Result<Tensor, EngineError> {
        if self.position >= self.context {
            return Err(EngineError::Internal("the context is full".into()));
        }
        self.forward(&[token])
    }

    fn reset(&mut self) {
        self.live = self.pristine.clone();
        self.position = 0;
    }
}
