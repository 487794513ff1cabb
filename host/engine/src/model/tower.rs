//! Vision towers: CLIP's and SigLIP's, each a transformer over the patches of an image.
//!
//! What a decoder reads is a state between two layers, before any last norm. So only the layers up to there are kept, and
//! neither the last norm nor SigLIP's pooling head is read.

use candle_core::{Module, Tensor};
use candle_nn::LayerNorm;
use serde_json::Value;

use super::{
    bad_config,
    config::check_keys,
    count,
    linear::{Linear, Targets},
    number, unsupported,
    weights::{Matrix, Weights},
};
use crate::error::LoadError;

/// Of an image, in pixels. No tower takes images anywhere near it, and squares of it stay numbers.
const MAX_SIDE: usize = 8192;

/// Keys of vision_config that are read.
const READ: [&str; 10] = [
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
];

/// Keys of training, of the pooling head, and of the text tower beside it, as old files repeat them.
const IGNORED: [&str; 6] = [
    "dropout",
    "initializer_factor",
    "projection_dim",
    "tie_word_embeddings",
    "vision_use_head",
    "vocab_size",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TowerKind {
    /// With a class token, and a norm before the first layer.
    Clip,
    Siglip,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Activation {
    QuickGelu,
    Gelu,
    GeluTanh,
}

/// The shape of a tower.
#[derive(Clone, Copy, Debug)]
pub(super) struct TowerConfig {
    pub(super) kind: TowerKind,
    pub(super) hidden: usize,
    /// Width of the layer between two others.
    inner: usize,
    pub(super) layers: usize,
    heads: usize,
    /// Of an image, in pixels.
    pub(super) side: usize,
    /// The side of a patch.
    patch: usize,
    activation: Activation,
    eps: f64,
}

impl TowerConfig {
    /// Reads `raw` as transformers would: with its defaults where a key is missing.
    pub(super) fn read(raw: &Value) -> Result<Self, LoadError> {
        let kind = raw.get("model_type").and_then(Value::as_str);
        let (kind, patch, activation, eps) = match kind {
            None | Some("clip_vision_model") => (TowerKind::Clip, 32, "quick_gelu", 1e-5),
            Some("siglip_vision_model") => (TowerKind::Siglip, 16, "gelu_pytorch_tanh", 1e-6),
            Some(other) => {
                return Err(LoadError::Unsupported {
                    feature: format!("a vision tower of type {other:?}"),
                    instead: "known are clip_vision_model and siglip_vision_model",
                });
            }
        };
        check_keys(raw, &[&READ, &IGNORED], "vision_config")?;
        let activation = Activation::read(raw, activation)?;
        let eps = number(raw, "layer_norm_eps", eps)?;
        let config = Self {
            kind,
            hidden: count(raw, "hidden_size", 768)?,
            inner: count(raw, "intermediate_size", 3072)?,
            layers: count(raw, "num_hidden_layers", 12)?,
            heads: count(raw, "num_attention_heads", 12)?,
            side: count(raw, "image_size", 224)?,
            patch: count(raw, "patch_size", patch)?,
            activation,
            eps,
        };
        if count(raw, "num_channels", 3)? != 3
            || config.side > MAX_SIDE
            || config.side < config.patch
            || !config.hidden.is_multiple_of(config.heads)
        {
            return Err(bad_config("the sizes in vision_config do not fit together"));
        }
        Ok(config)
    }

    /// How many patches are beside each other. What is left at the right and at the bottom is not looked at.
    fn grid(&self) -> usize {
        self.side / self.patch
    }

    /// How many states a layer makes of an image.
    pub(super) fn rows(&self) -> usize {
        self.grid().pow(2) + usize::from(self.kind == TowerKind::Clip)
    }
}

/// Whether a tower of this kind goes without a tensor, named as inside the tower. Any other one that nothing reads means that it is
/// not the tower of config.json.
pub(super) fn is_unused(part: &str, kind: TowerKind) -> bool {
    part.starts_with("post_layernorm.")
        || part == "embeddings.position_ids"
        || (kind == TowerKind::Siglip && part.starts_with("head."))
}

pub(super) struct Tower {
    config: TowerConfig,
    patches: Linear,
    patch_bias: Option<Tensor>,
    class: Option<Tensor>,
    positions: Tensor,
    first_norm: Option<LayerNorm>,
    layers: Vec<Layer>,
}

struct Layer {
    heads: usize,
    activation: Activation,
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    mlp_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Tower {
    /// Reads the tensors `{prefix}…`, of all layers. The features are what the first `used` of them make.
    pub(super) fn new(
        config: TowerConfig,
        used: usize,
        weights: &mut dyn Weights,
        prefix: &str,
    ) -> Result<Self, LoadError> {
        let TowerConfig { hidden, patch, eps, .. } = config;
        // No adapter changes a tower.
        let mut targets = Targets::default();
        let name = format!("{prefix}embeddings.patch_embedding");
        let shape = (hidden, 3 * patch * patch);
        let weight = weights
            .tensor(&format!("{name}.weight"), &[hidden, 3, patch, patch])?
            .reshape(shape)?;
        let patches = Linear::new(&mut targets, &name, shape, Matrix::Float(weight));
        let positions = weights.tensor(
            &format!("{prefix}embeddings.position_embedding.weight"),
            &[config.rows(), hidden],
        )?;
        let (patch_bias, class, first_norm) = match config.kind {
            TowerKind::Clip => {
                let class =
                    weights.tensor(&format!("{prefix}embeddings.class_embedding"), &[hidden])?;
                // The name is spelled so in every checkpoint.
                let norm = layer_norm(weights, &format!("{prefix}pre_layrnorm"), hidden, eps)?;
                (None, Some(class.unsqueeze(0)?), Some(norm))
            }
            TowerKind::Siglip => {
                (Some(weights.tensor(&format!("{name}.bias"), &[hidden])?), None, None)
            }
        };
        let mut layers = (0..config.layers)
            .map(|index| {
                let name = format!("{prefix}encoder.layers.{index}.");
                Layer::read(&config, weights, &mut targets, &name)
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        layers.truncate(used);
        Ok(Self { config, patches, patch_bias, class, positions, first_norm, layers })
    }

    /// Of an image of (3, side, side), the states after the last layer that is used, (rows, hidden).
    pub(super) fn forward(&self, image: &Tensor) -> candle_core::Result<Tensor> {
        let (grid, patch) = (self.config.grid(), self.config.patch);
        // The convolution's window moves by its own width, so it is a product for each patch.
        let patches = image
            .narrow(1, 0, grid * patch)?
            .narrow(2, 0, grid * patch)?
            .reshape((3, grid, patch, grid, patch))?
            .permute((1, 3, 0, 2, 4))?
            .reshape((grid * grid, 3 * patch * patch))?;
        let mut x = self.patches.forward(&patches, &[])?;
        if let Some(bias) = &self.patch_bias {
            x = x.broadcast_add(bias)?;
        }
        if let Some(class) = &self.class {
            x = Tensor::cat(&[class, &x], 0)?;
        }
        x = (x + &self.positions)?;
        if let Some(norm) = &self.first_norm {
            x = norm.forward(&x)?;
        }
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}

impl Layer {
    fn read(
        config: &TowerConfig,
        weights: &mut dyn Weights,
        targets: &mut Targets,
        name: &str,
    ) -> Result<Self, LoadError> {
        let TowerConfig { hidden, inner, heads, activation, eps, .. } = *config;
        let attention_norm = layer_norm(weights, &format!("{name}layer_norm1"), hidden, eps)?;
        let mlp_norm = layer_norm(weights, &format!("{name}layer_norm2"), hidden, eps)?;
        let mut linear = |part: &str, shape: (usize, usize)| {
            Linear::read(weights, targets, &format!("{name}{part}"), shape, true)
        };
        Ok(Self {
            heads,
            activation,
            query: linear("self_attn.q_proj", (hidden, hidden))?,
            key: linear("self_attn.k_proj", (hidden, hidden))?,
            value: linear("self_attn.v_proj", (hidden, hidden))?,
            output: linear("self_attn.out_proj", (hidden, hidden))?,
            up: linear("mlp.fc1", (inner, hidden))?,
            down: linear("mlp.fc2", (hidden, inner))?,
            attention_norm,
            mlp_norm,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.attention(&self.attention_norm.forward(x)?)?;
        let x = (x + y)?;
        let y = self.up.forward(&self.mlp_norm.forward(&x)?, &[])?;
        let y = self.down.forward(&self.activation.forward(&y)?, &[])?;
        x + y
    }

    /// Every patch looks at every other.
    fn attention(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (rows, hidden) = x.dims2()?;
        let head = hidden / self.heads;
        let split = |layer: &Linear| {
            layer.forward(x, &[])?.reshape((rows, self.heads, head))?.transpose(0, 1)?.contiguous()
        };
        let (query, key, value) = (split(&self.query)?, split(&self.key)?, split(&self.value)?);
        let scores = (query.matmul(&key.t()?)? * (head as f64).powf(-0.5))?;
        let y = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&value)?;
        self.output.forward(&y.transpose(0, 1)?.reshape((rows, hidden))?, &[])
    }
}

impl Activation {
    /// The `hidden_act` of a vision_config; `default` where there is none.
    pub(super) fn read(raw: &Value, default: &str) -> Result<Self, LoadError> {
        let name = match raw.get("hidden_act") {
            None | Some(Value::Null) => default,
            Some(named) => named.as_str().unwrap_or("(no text)"),
        };
        Ok(match name {
            "quick_gelu" => Self::QuickGelu,
            "gelu" => Self::Gelu,
            "gelu_pytorch_tanh" => Self::GeluTanh,
            other => return Err(unsupported(&format!("hidden_act {other:?} in vision_config"))),
        })
    }

    pub(super) fn forward(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702f64)?)?,
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
        }
    }
}

/// Reads `{name}.weight` and `{name}.bias`.
pub(super) fn layer_norm(
    weights: &mut dyn Weights,
    name: &str,
    size: usize,
    eps: f64,
) -> Result<LayerNorm, LoadError> {
    let weight = weights.tensor(&format!("{name}.weight"), &[size])?;
    let bias = weights.tensor(&format!("{name}.bias"), &[size])?;
    Ok(LayerNorm::new(weight, bias, eps))
}
