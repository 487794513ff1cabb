//! The decoder of the Llama family: Llama, Mistral, Qwen2, Qwen3 and what is built like them.

use std::{collections::HashMap, ops::Range};

use candle_core::{DType, Device, Tensor};

use super::{
    AdapterInfo, Capacity, Run,
    attention::{Attention, LayerOptions},
    batch::Batch,
    config::DecoderConfig,
    host,
    linear::{Adapted, Linear, Pair, Pairs, Targets},
    weights::{Matrix, Weights},
};
use crate::{
    adapter::{AdapterError, AdapterLoadError, Lora},
    checkpoint::Files,
    error::{EngineError, LoadError},
    memory::CacheSize,
};

pub(super) struct Decoder {
    config: DecoderConfig,
    embeddings: Tensor,
    layers: Vec<Layer>,
    norm: Norm,
    head: Linear,
    attention: Attention,
    targets: Targets,
    adapters: HashMap<String, Pairs>,
    device: Device,
    dtype: DType,
}

struct Layer {
    attention_norm: Norm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    head_norms: Option<(Tensor, Tensor)>,
    mlp_norm: Norm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

struct Norm {
    weight: Tensor,
    eps: f64,
}

/// What is wanted of the last rows of runs.
#[derive(Clone, Copy)]
enum Rows {
    Logits,
    /// What the head would read.
    States,
}

/// Where a decoder calculates, and what it may take for its cache.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) device: &'a Device,
    pub(super) dtype: DType,
    pub(super) cache: CacheSize,
}

impl Decoder {
    /// Reads the tensors `{prefix}model.…` and `{prefix}lm_head.…`.
    pub(super) fn new(
        config: DecoderConfig,
        weights: &mut dyn Weights,
        prefix: &str,
        place: Place<'_>,
    ) -> Result<Self, LoadError> {
        let mut targets = Targets::default();
        let shape = (config.vocabulary, config.hidden);
        let table = weights.matrix(&format!("{prefix}model.embed_tokens.weight"), shape)?;
        let embeddings = table.rows(place.device)?;
        let head = format!("{prefix}lm_head");
        let head = if config.tied {
            check_tied(weights, &format!("{head}.weight"), &embeddings)?;
            Linear::new(&mut targets, &head, shape, table)
        } else {
            drop(table);
            Linear::read(weights, &mut targets, &head, shape, false)?
        };
        let layers = (0..config.layers())
            .map(|index| {
                let name = format!("{prefix}model.layers.{index}.");
                Layer::read(&config, weights, &mut targets, &name)
            })
            .collect::<Result<_, _>>()?;
        let norm = Norm::read(weights, &format!("{prefix}model.norm"), config.hidden, config.eps)?;
        // The weights are there by now: a GPU's free memory is what they left.
        let bytes = place.cache.on(place.device);
        let attention = Attention::new(&config, place.device, place.dtype, bytes)?;
        Ok(Self {
            config,
            embeddings,
            layers,
            norm,
            head,
            attention,
            targets,
            adapters: HashMap::new(),
            device: place.device.clone(),
            dtype: place.dtype,
        })
    }

    pub(super) fn context(&self) -> usize {
        self.config.context
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.config.vocabulary
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.attention.capacity()
    }

    /// See [`Model::width`](super::Model::width).
    pub(super) fn width(&self) -> usize {
        self.config.hidden
    }

    /// See [`Model::forward`](super::Model::forward).
    pub(super) fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        self.run(runs, Rows::Logits)
    }

    /// See [`Model::embed`](super::Model::embed).
    pub(super) fn embed(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        self.run(runs, Rows::States)
    }

    fn run(&mut self, runs: &[Run<'_>], wanted: Rows) -> Result<Tensor, EngineError> {
        let batch = Batch::new(runs, self.config.context, self.capacity())?;
        if self.device.is_cpu() && rayon::current_num_threads() > 1 {
            // Inside the pool, handing work to its other threads is cheap.
            rayon::scope(|_| self.step(&batch, wanted))
        } else {
            self.step(&batch, wanted)
        }
    }

    fn step(&mut self, batch: &Batch<'_>, wanted: Rows) -> Result<Tensor, EngineError> {
        let parts = batch.spans.iter().map(|span| (span.run.adapter, span.run.tokens.len()));
        let adapted = groups(&self.adapters, parts)?;
        let ids = Tensor::new(batch.tokens(), &self.device)?;
        let mut x = batch.splice(self.embeddings.index_select(&ids, 0)?.to_dtype(self.dtype)?)?;
        self.attention.begin(batch)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let options = LayerOptions {
                index,
                window: self.config.windows[index],
                norms: layer.head_norms.as_ref().map(|(query, key)| (query, key)),
            };
            let y = layer.attention_norm.forward(&x)?;
            let queries = layer.query.forward(&y, &adapted)?;
            let keys = layer.key.forward(&y, &adapted)?;
            let values = layer.value.forward(&y, &adapted)?;
            let y = self.attention.forward(&options, &queries, &keys, &values, batch)?;
            x = (x + layer.output.forward(&y, &adapted)?)?;

            let y = layer.mlp_norm.forward(&x)?;
            let gate = layer.gate.forward(&y, &adapted)?;
            let up = layer.up.forward(&y, &adapted)?;
            x = (x + layer.down.forward(&gated(&gate, &up)?, &adapted)?)?;
            x = batch.deepen(x, index)?;
        }
        self.rows(batch, &x, wanted)
    }

    /// Of the last rows of the runs that ask, in the order of the runs.
    fn rows(&self, batch: &Batch<'_>, x: &Tensor, wanted: Rows) -> Result<Tensor, EngineError> {
        let asking: Vec<_> = batch.spans.iter().filter(|span| span.run.logits).collect();
        if asking.is_empty() {
            let width = match wanted {
                Rows::Logits => self.config.vocabulary,
                Rows::States => self.config.hidden,
            };
            return Ok(Tensor::zeros((0, width), DType::F32, &self.device)?);
        }
        let last = asking.iter().map(|span| span.first + span.run.tokens.len() - 1);
        let rows: Vec<u32> = last.map(|row| row as u32).collect();
        let x = x.index_select(&Tensor::new(rows, &self.device)?, 0)?;
        let states = self.norm.forward(&x)?;
        let rows = match wanted {
            Rows::States => states,
            Rows::Logits => {
                let names = asking.iter().map(|span| (span.run.adapter, 1));
                self.head.forward(&states, &groups(&self.adapters, names)?)?
            }
        };
        let rows = rows.to_dtype(DType::F32)?;
        let mut order: Vec<u32> = (0..asking.len() as u32).collect();
        order.sort_by_key(|row| asking[*row as usize].place);
        if order.is_sorted() {
            return Ok(rows);
        }
        Ok(rows.index_select(&Tensor::new(order, &self.device)?, 0)?)
    }

    /// `canonical` gives the names in an adapter their spelling in this model.
    pub(super) fn load_adapter(
        &mut self,
        name: &str,
        files: &Files,
        canonical: &dyn Fn(&str) -> String,
    ) -> Result<AdapterInfo, AdapterLoadError> {
        let mut pairs = Pairs::default();
        for change in Lora::read(files)?.changes {
            let module = change.module;
            let Some(target) = self.targets.get(&canonical(&format!("{module}.weight"))) else {
                return Err(AdapterError::UnknownTarget(module).into());
            };
            let found = vec![change.b.dim(0)?, change.a.dim(1)?];
            if found != [target.outputs, target.inputs] {
                let expected = vec![target.outputs, target.inputs];
                return Err(AdapterError::Shape { module, expected, found }.into());
            }
            let place = |tensor: Tensor| tensor.to_dtype(self.dtype)?.to_device(&self.device);
            let pair = Pair { a: place(change.a)?, b: place((change.b * change.scale)?)? };
            pairs.0.insert(target.id, pair);
        }
        let info = AdapterInfo { modules: pairs.0.len() };
        self.adapters.insert(name.to_owned(), pairs);
        Ok(info)
    }

    /// Attention as on a GPU: by candle's operations, or by flash attention.
    #[cfg(test)]
    pub(super) fn calculate_as_other_devices_do(&mut self, flash: bool) -> candle_core::Result<()> {
        self.attention = self.attention.on_other_device(&self.config, flash)?;
        Ok(())
    }

    pub(super) fn unload_adapter(&mut self, name: &str) {
        self.adapters.remove(name);
    }
}

/// A checkpoint may repeat the embeddings as the last layer. A last layer of its own would be lost.
pub(super) fn check_tied(
    weights: &mut dyn Weights,
    name: &str,
    embeddings: &Tensor,
) -> Result<(), LoadError> {
    if !weights.rest().contains(&name) {
        return Ok(());
    }
    let own = weights.matrix(name, embeddings.dims2()?)?.rows(embeddings.device())?;
    // Another type has other numbers; `f32` has all of both.
    let same = if own.dtype() == embeddings.dtype() {
        own.eq(embeddings)?
    } else {
        own.to_dtype(DType::F32)?.eq(&embeddings.to_dtype(DType::F32)?)?
    };
    if same.min_all()?.to_scalar::<u8>()? == 1 {
        return Ok(());
    }
    Err(LoadError::Unsupported {
        feature: format!("tensor {name} beside other embeddings"),
        instead: "tie_word_embeddings says that they are the same; set it to false",
    })
}

/// Neighbours of one adapter together; `parts` are names and how many rows go by them.
fn groups<'a, 'b>(
    adapters: &'a HashMap<String, Pairs>,
    parts: impl Iterator<Item = (Option<&'b str>, usize)>,
) -> Result<Vec<Adapted<'a>>, EngineError> {
    let mut groups: Vec<(Option<&str>, Range<usize>)> = Vec::new();
    let mut end = 0;
    for (name, rows) in parts {
        match groups.last_mut() {
            Some((last, range)) if *last == name => range.end += rows,
            _ => groups.push((name, end..end + rows)),
        }
        end += rows;
    }
    let known = groups.into_iter().filter_map(|(name, rows)| {
        let name = name?;
        let adapted = adapters.get(name).map(|pairs| Adapted { rows, pairs });
        Some(adapted.ok_or_else(|| EngineError::Internal(format!("no adapter {name} is loaded"))))
    });
    known.collect()
}

impl Layer {
    fn read(
        config: &DecoderConfig,
        weights: &mut dyn Weights,
        targets: &mut Targets,
        name: &str,
    ) -> Result<Self, LoadError> {
        let DecoderConfig { hidden, inner, head, eps, .. } = *config;
        let queries = config.heads * head;
        let keys = config.key_value_heads * head;
        let (qkv, out, mlp) = (config.qkv_bias, config.output_bias, config.mlp_bias);
        let attention_norm = Norm::read(weights, &format!("{name}input_layernorm"), hidden, eps)?;
        let mlp_norm =
            Norm::read(weights, &format!("{name}post_attention_layernorm"), hidden, eps)?;
        let head_norms = match config.head_norms {
            true => Some((
                weights.tensor(&format!("{name}self_attn.q_norm.weight"), &[head])?,
                weights.tensor(&format!("{name}self_attn.k_norm.weight"), &[head])?,
            )),
            false => None,
        };
        let mut linear = |part: &str, shape: (usize, usize), bias: bool| {
            Linear::read(weights, targets, &format!("{name}{part}"), shape, bias)
        };
        Ok(Self {
            query: linear("self_attn.q_proj", (queries, hidden), qkv)?,
            key: linear("self_attn.k_proj", (keys, hidden), qkv)?,
            value: linear("self_attn.v_proj", (keys, hidden), qkv)?,
            output: linear("self_attn.o_proj", (hidden, queries), out)?,
            gate: linear("mlp.gate_proj", (inner, hidden), mlp)?,
            up: linear("mlp.up_proj", (inner, hidden), mlp)?,
            down: linear("mlp.down_proj", (hidden, inner), mlp)?,
            attention_norm,
            head_norms,
            mlp_norm,
        })
    }
}

impl Norm {
    fn read(
        weights: &mut dyn Weights,
        name: &str,
        size: usize,
        eps: f64,
    ) -> Result<Self, LoadError> {
        Ok(Self { weight: weights.tensor(&format!("{name}.weight"), &[size])?, eps })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if host::takes(x) {
            host::rms_norm(x, &self.weight, self.eps)
        } else {
            candle_nn::ops::rms_norm(x, &self.weight, self.eps as f32)
        }
    }
}

/// `silu(gate) * up`.
fn gated(gate: &Tensor, up: &Tensor) -> candle_core::Result<Tensor> {
    if host::takes(gate) { host::gated(gate, up) } else { gate.silu()? * up }
}

impl Matrix {
    /// As a tensor that rows can be taken from.
    fn rows(&self, device: &Device) -> candle_core::Result<Tensor> {
        use candle_core::quantized::QMatMul;
        match self {
            Self::Float(tensor) | Self::Quantized(QMatMul::Tensor(tensor)) => Ok(tensor.clone()),
            Self::Quantized(QMatMul::TensorF16(tensor)) => tensor.to_dtype(DType::F32),
            Self::Quantized(QMatMul::QTensor(tensor)) => tensor.dequantize(device),
            Self::Packed(packed) => packed.floats(),
        }
    }
}
