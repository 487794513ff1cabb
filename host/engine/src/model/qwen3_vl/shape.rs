//! What a tower of Qwen3-VL looks like, by its vision_config.

use serde_json::Value;

use crate::{
    error::LoadError,
    model::{bad_config, config::check_keys, count, tower::Activation, unsupported},
};

/// Keys that are read.
const READ: [&str; 14] = [
    "model_type",
    "depth",
    "hidden_size",
    "hidden_act",
    "intermediate_size",
    "num_heads",
    "in_channels",
    "patch_size",
    "spatial_merge_size",
    "temporal_patch_size",
    "out_hidden_size",
    "num_position_embeddings",
    "deepstack_visual_indexes",
    "rope_parameters",
];

/// Of states. No tower is anywhere near it, and products of it stay numbers.
const MAX_WIDTH: usize = 1 << 20;
/// Of a token's square, in pixels; and of frames.
const MAX_SQUARE: usize = 1024;

/// The shape of a tower.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) layers: usize,
    pub(super) hidden: usize,
    /// Width of the layer between two others.
    pub(super) inner: usize,
    pub(super) heads: usize,
    /// Width of what it makes: the decoder's.
    pub(super) output: usize,
    /// The side of a patch, in pixels.
    pub(super) patch: usize,
    /// How many patches lie beside each other in a token's square.
    pub(super) merge: usize,
    /// How many frames of a video a patch has. All of an image's are the same.
    pub(super) frames: usize,
    /// How many positions are learned: those of a square, row by row.
    pub(super) positions: usize,
    /// After which layers the decoder's first ones are told what is seen, rising.
    pub(super) deep: Vec<usize>,
    pub(super) activation: Activation,
    /// Of the turning of queries and keys.
    pub(super) theta: f32,
}

impl Shape {
    /// Reads `raw` as transformers would: with its defaults where a key is missing.
    pub(super) fn read(raw: &Value) -> Result<Self, LoadError> {
        // Early files name the whole model.
        let kind = raw.get("model_type").and_then(Value::as_str);
        if let Some(other) = kind.filter(|kind| !["qwen3_vl", "qwen3_vl_vision"].contains(kind)) {
            return Err(LoadError::Unsupported {
                feature: format!("a vision tower of type {other:?}"),
                instead: "known is qwen3_vl_vision",
            });
        }
        check_keys(raw, &[&READ], "vision_config")?;
        let layers = count(raw, "depth", 27)?;
        let shape = Self {
            layers,
            hidden: count(raw, "hidden_size", 1152)?,
            inner: count(raw, "intermediate_size", 4304)?,
            heads: count(raw, "num_heads", 16)?,
            output: count(raw, "out_hidden_size", 3584)?,
            patch: count(raw, "patch_size", 16)?,
            merge: count(raw, "spatial_merge_size", 2)?,
            frames: count(raw, "temporal_patch_size", 2)?,
            positions: count(raw, "num_position_embeddings", 2304)?,
            deep: deep(raw, layers)?,
            activation: Activation::read(raw, "gelu_pytorch_tanh")?,
            theta: theta(raw)?,
        };
        let too_large = shape.hidden > MAX_WIDTH
            || shape.frames > MAX_SQUARE
            || shape.patch.checked_mul(shape.merge).is_none_or(|side| side > MAX_SQUARE);
        // Half of a head is turned by the row of a patch and half by its column, in pairs.
        let fits = shape.hidden.is_multiple_of(shape.heads)
            && (shape.hidden / shape.heads).is_multiple_of(4);
        if too_large || !fits || count(raw, "in_channels", 3)? != 3 {
            return Err(bad_config("the sizes in vision_config do not fit together"));
        }
        Ok(shape)
    }

    /// The side of a token's square, in pixels.
    pub(super) fn square(&self) -> u32 {
        // At most MAX_SQUARE.
        (self.patch * self.merge) as u32
    }

    /// The side of the square of learned positions.
    pub(super) fn side(&self) -> usize {
        self.positions.isqrt()
    }
}

fn deep(raw: &Value, layers: usize) -> Result<Vec<usize>, LoadError> {
    let key = "deepstack_visual_indexes";
    let deep: Option<Vec<usize>> = match raw.get(key) {
        None | Some(Value::Null) => Some(vec![8, 16, 24]),
        Some(value) => value.as_array().and_then(|list| {
            list.iter().map(|layer| usize::try_from(layer.as_u64()?).ok()).collect()
        }),
    };
    deep.filter(|deep| {
        deep.is_sorted_by(|a, b| a < b) && deep.last().is_none_or(|last| *last < layers)
    })
    .ok_or_else(|| {
        bad_config(format!("{key} are not rising numbers of the tower's {layers} layers"))
    })
}

fn theta(raw: &Value) -> Result<f32, LoadError> {
    let Some(rope) = raw.get("rope_parameters").filter(|it| !it.is_null()) else {
        return Ok(10_000.0);
    };
    let Some(rope) = rope.as_object() else {
        return Err(bad_config(format!("rope_parameters in vision_config is {rope}")));
    };
    let mut theta = 10_000.0;
    for (key, value) in rope {
        let is_known = match key.as_str() {
            "rope_type" | "type" => ["axial", "default"].map(Value::from).contains(value),
            "rope_theta" => {
                theta = value.as_f64().unwrap_or(0.0) as f32;
                theta > 0.0
            }
            _ => value.is_null(),
        };
        if !is_known {
            return Err(unsupported(&format!("{key} {value} of rope_parameters in vision_config")));
        }
    }
    Ok(theta)
}
