//! Models in a GGUF file, with quantized weights.

use std::{borrow::Cow, fs::File, io::BufReader, path::Path};

use candle_core::{
    DType, Device, Tensor,
    quantized::{
        QStorage, QTensor,
        gguf_file::{Content, Value},
    },
};

use super::{
    MAX_CONTEXT, Model,
    config::{DecoderConfig, Kind},
    decoder::{Decoder, Place},
    llama::TextModel,
    rope::Rope,
    weights::{Matrix, Weights, check_shape},
};
use crate::{
    error::{LoadError, first_line},
    tokenizer::gguf::{Metadata, number, text},
};

/// Names of transformers, and llama.cpp's for the same.
const NAMES: [(&str, &str); 15] = [
    ("model.layers.", "blk."),
    ("model.embed_tokens.", "token_embd."),
    ("model.norm.", "output_norm."),
    ("lm_head.", "output."),
    ("self_attn.q_proj.", "attn_q."),
    ("self_attn.k_proj.", "attn_k."),
    ("self_attn.v_proj.", "attn_v."),
    ("self_attn.o_proj.", "attn_output."),
    ("self_attn.q_norm.", "attn_q_norm."),
    ("self_attn.k_norm.", "attn_k_norm."),
    ("mlp.gate_proj.", "ffn_gate."),
    ("mlp.up_proj.", "ffn_up."),
    ("mlp.down_proj.", "ffn_down."),
    ("input_layernorm.", "attn_norm."),
    ("post_attention_layernorm.", "ffn_norm."),
];

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

    pub(crate) fn load(
        self,
        device: &Device,
        cache_bytes: usize,
        dequantize: bool,
    ) -> Result<Box<dyn Model>, LoadError> {
        let (kind, config) = read_config(&self.content)?;
        // llama.cpp turns neighbours in a head, and has reordered the rows of Llamas for that.
        let interleaved = kind == Kind::Llama;
        let heads = (config.heads, config.key_value_heads);
        let place = Place { device, dtype: DType::F32, cache_bytes };
        let device = device.clone();
        let mut weights = GgufWeights { file: self, device, interleaved, heads, dequantize };
        let decoder = Decoder::new(config, &mut weights, "", place)?;
        Ok(Box::new(TextModel { family: kind.name(), decoder }))
    }
}

/// Refuses what would be ignored and come out wrong.
fn read_config(content: &Content) -> Result<(Kind, DecoderConfig), LoadError> {
    let metadata = &content.metadata;
    let architecture = text(metadata, "general.architecture").unwrap_or("(none)");
    let known = ["llama", "qwen2", "qwen3"];
    let kind = Kind::of(architecture).filter(|_| known.contains(&architecture));
    let kind = kind.ok_or_else(|| LoadError::UnknownFamily {
        found: format!("GGUF architecture {architecture:?}"),
        known: known.join(", "),
    })?;
    let key = |name: &str| format!("{architecture}.{name}");
    let scaling = text(metadata, &key("rope.scaling.type")).unwrap_or("none");
    if scaling != "none" || content.tensor_infos.contains_key("rope_freqs.weight") {
        return Err(LoadError::Unsupported {
            feature: "stretching of positions in a GGUF file".to_owned(),
            instead: "use the safetensors folder of the model",
        });
    }
    let whole = |name: &str| {
        number(metadata, &key(name)).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    };
    if whole("expert_count") > 1 {
        return Err(LoadError::Unsupported {
            feature: "a mixture of experts".to_owned(),
            instead: "use a dense model",
        });
    }
    let float = |name: &str| match metadata.get(&key(name)) {
        Some(Value::F32(value)) => Some(*value),
        Some(Value::F64(value)) => Some(*value as f32),
        _ => None,
    };
    let hidden = whole("embedding_length");
    let heads = whole("attention.head_count");
    let key_value_heads = match whole("attention.head_count_kv") {
        0 => heads,
        some => some,
    };
    let head = match whole("attention.key_length") {
        0 => hidden.checked_div(heads).unwrap_or(0),
        some => some,
    };
    let turned = match whole("rope.dimension_count") {
        0 => head,
        some => some,
    };
    let values = match whole("attention.value_length") {
        0 => head,
        some => some,
    };
    let layers = whole("block_count");
    let fits = heads > 0 && head > 0 && head.is_multiple_of(2) && layers > 0;
    if !fits || !heads.is_multiple_of(key_value_heads) || turned != head || values != head {
        return Err(LoadError::Config {
            file: "the GGUF file".to_owned(),
            reason: format!(
                "{hidden} hidden, {heads} heads and {key_value_heads} key-value heads do not fit"
            ),
        });
    }
    let rows = |name: &str| {
        let info = content.tensor_infos.get(name);
        let dims = info.map(|info| info.shape.dims().to_vec()).unwrap_or_default();
        dims.first().copied().ok_or(LoadError::MissingTensor { name: name.to_owned() })
    };
    let window = Some(whole("attention.sliding_window")).filter(|window| *window > 0);
    let config = DecoderConfig {
        vocabulary: rows("token_embd.weight")?,
        hidden,
        inner: rows("blk.0.ffn_gate.weight")?,
        heads,
        key_value_heads,
        head,
        context: match whole("context_length") {
            0 => 4096,
            some => some.min(MAX_CONTEXT),
        },
        eps: f64::from(float("attention.layer_norm_rms_epsilon").unwrap_or(1e-5)),
        tied: !content.tensor_infos.contains_key("output.weight"),
        qkv_bias: content.tensor_infos.contains_key("blk.0.attn_q.bias"),
        output_bias: content.tensor_infos.contains_key("blk.0.attn_output.bias"),
        mlp_bias: content.tensor_infos.contains_key("blk.0.ffn_gate.bias"),
        head_norms: content.tensor_infos.contains_key("blk.0.attn_q_norm.weight"),
        windows: vec![window; layers],
        rope: Rope::plain(float("rope.freq_base").unwrap_or(10_000.0), head),
    };
    Ok((kind, config))
}

/// The tensors of a file under their names in transformers, with their rows in the order of transformers.
struct GgufWeights {
    file: Gguf,
    device: Device,
    interleaved: bool,
    /// Of queries, of keys.
    heads: (usize, usize),
    dequantize: bool,
}

impl GgufWeights {
    fn read(&mut self, name: &str) -> Result<QTensor, LoadError> {
        let short = short_name(name);
        if !self.file.content.tensor_infos.contains_key(&short) {
            return Err(LoadError::MissingTensor { name: short });
        }
        let tensor = self.file.content.tensor(&mut self.file.reader, &short, &self.device)?;
        let heads = if short.contains("attn_q.") {
            self.heads.0
        } else if short.contains("attn_k.") {
            self.heads.1
        } else {
            return Ok(tensor);
        };
        if self.interleaved { Ok(uninterleaved(&tensor, heads, &self.device)?) } else { Ok(tensor) }
    }
}

impl Weights for GgufWeights {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        let tensor = self.read(name)?;
        check_shape(name, shape, tensor.shape().dims())?;
        Ok(tensor.dequantize(&self.device)?)
    }

    fn matrix(&mut self, name: &str, shape: (usize, usize)) -> Result<Matrix, LoadError> {
        let tensor = self.read(name)?;
        check_shape(name, &[shape.0, shape.1], tensor.shape().dims())?;
        if self.dequantize {
            return Ok(Matrix::Float(tensor.dequantize(&self.device)?));
        }
        Matrix::quantized(tensor)
    }
}

fn short_name(name: &str) -> String {
    NAMES.iter().fold(name.to_owned(), |name, (long, short)| name.replace(long, short))
}

/// Puts the first halves of all pairs of a head before the second halves. Rows are quantized each on its own, so that their bytes
/// can be moved.
fn uninterleaved(tensor: &QTensor, heads: usize, device: &Device) -> candle_core::Result<QTensor> {
    let dims = tensor.shape().dims().to_vec();
    let bytes = tensor.data()?;
    let rows = dims.first().copied().unwrap_or(1);
    let size = bytes.len() / rows;
    let head = rows / heads;
    let mut moved = Vec::with_capacity(bytes.len());
    for row in 0..rows {
        let (first, at) = (row / head * head, row % head);
        let (half, pair) = (at / (head / 2), at % (head / 2));
        let from = first + 2 * pair + half;
        moved.extend_from_slice(&bytes[from * size..(from + 1) * size]);
    }
    let storage = QStorage::from_data(Cow::Owned(moved), device, tensor.dtype())?;
    QTensor::new(storage, dims)
}
