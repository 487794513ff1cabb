//! Models in a GGUF file, with quantized weights. `config` reads its metadata.

mod config;

use std::{borrow::Cow, collections::HashSet, fs::File, io::BufReader, path::Path};

use candle_core::{
    DType, Device, Tensor,
    quantized::{QStorage, QTensor, gguf_file::Content},
};

use super::{
    Model,
    config::Kind,
    decoder::{Decoder, Place},
    llama::TextModel,
    weights::{Matrix, Weights, check_rest, check_shape},
};
use crate::{
    error::{LoadError, first_line},
    memory::CacheSize,
    tokenizer::gguf::Metadata,
};

/// How much slower each pair of a head turns, in files of Llama 3.1 and later: what a config.json says with a rope_type.
const TURNS: &str = "rope_freqs.weight";

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
        cache: CacheSize,
        dequantize: bool,
    ) -> Result<Box<dyn Model>, LoadError> {
        let (kind, mut config) = config::read(&self.content)?;
        let turns = self.content.tensor_infos.contains_key(TURNS);
        // llama.cpp turns neighbours in a head, and has reordered the rows of Llamas for that.
        let interleaved = kind == Kind::Llama;
        let heads = (config.heads, config.key_value_heads);
        let place = Place { device, dtype: DType::F32, cache };
        let device = device.clone();
        let taken = HashSet::new();
        let mut weights = GgufWeights { file: self, device, interleaved, heads, dequantize, taken };
        if turns {
            let slower = weights.tensor(TURNS, &[config.head / 2])?.to_vec1::<f32>()?;
            config.rope = config.rope.slowed(&slower)?;
        }
        let decoder = Decoder::new(config, &mut weights, "", place)?;
        check_rest(&weights, |_| false)?;
        Ok(Box::new(TextModel { family: kind.name(), decoder }))
    }
}

/// The tensors of a file under their names in transformers, with their rows in the order of transformers.
struct GgufWeights {
    file: Gguf,
    device: Device,
    interleaved: bool,
    /// Of queries, of keys.
    heads: (usize, usize),
    dequantize: bool,
    /// Names in the file of the tensors that were read.
    taken: HashSet<String>,
}

impl GgufWeights {
    fn read(&mut self, name: &str) -> Result<QTensor, LoadError> {
        let short = short_name(name);
        if !self.file.content.tensor_infos.contains_key(&short) {
            return Err(LoadError::MissingTensor { name: short });
        }
        let tensor = self.file.content.tensor(&mut self.file.reader, &short, &self.device)?;
        self.taken.insert(short.clone());
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

    fn rest(&self) -> Vec<&str> {
        let names = self.file.content.tensor_infos.keys().map(String::as_str);
        names.filter(|name| !self.taken.contains(*name)).collect()
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
