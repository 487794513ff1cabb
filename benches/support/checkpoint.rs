//! A checkpoint with random weights, as large as a real one: how fast a model is does not depend on what it learned.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::{Map, Value, json};

/// The tokenizer and the chat template of the tests; prompts of benchmarks are tokens.
const TEXT_FILES: [&str; 4] =
    ["chat_template.jinja", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

/// The sizes of a Llama model.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) feed_forward: usize,
    pub(crate) vocabulary: usize,
}

/// SmolLM2-135M.
pub(crate) const SMALL: Shape = Shape {
    hidden: 576,
    layers: 30,
    heads: 9,
    kv_heads: 3,
    feed_forward: 1536,
    vocabulary: 49_152,
};

/// For smoke runs.
pub(crate) const TINY: Shape =
    Shape { hidden: 64, layers: 2, heads: 4, kv_heads: 2, feed_forward: 128, vocabulary: 512 };

/// The type of the weights in a file.
#[allow(dead_code, reason = "a benchmark need not write both")]
#[derive(Clone, Copy)]
pub(crate) enum Numbers {
    F32,
    Bf16,
}

impl Numbers {
    /// What config.json and safetensors call it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::F32 => ("float32", "F32"),
            Self::Bf16 => ("bfloat16", "BF16"),
        }
    }

    /// The bytes of a number that are kept: `bf16` is the upper half of `f32`.
    fn bytes(self, value: &[u8; 4]) -> &[u8] {
        match self {
            Self::F32 => value,
            Self::Bf16 => &value[2..],
        }
    }
}

/// Writes the files of a model into `folder`.
pub(crate) fn write(folder: &Path, shape: Shape, numbers: Numbers) -> std::io::Result<()> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models/llama");
    for name in TEXT_FILES {
        fs::copy(fixture.join(name), folder.join(name))?;
    }
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": numbers.names().0,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden / shape.heads,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "bos_token_id": 1,
        "eos_token_id": 2
    });
    fs::write(folder.join("config.json"), config.to_string())?;

    let tensors = tensors(shape);
    let mut header = Map::new();
    let mut end = 0;
    for (name, dims) in &tensors {
        let start = end;
        end += dims.iter().product::<usize>() * numbers.bytes(&[0; 4]).len();
        let entry =
            json!({"dtype": numbers.names().1, "shape": dims, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = BufWriter::new(File::create(folder.join("model.safetensors"))?);
    // The format aligns its data to eight bytes.
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut random = 2026_u64;
    for (name, dims) in &tensors {
        for _ in 0..dims.iter().product() {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let unit = (random >> 40) as f32 / (1 << 24) as f32 - 0.5;
            let value = if name.contains("norm") { 1.0 } else { unit * 0.08 };
            file.write_all(numbers.bytes(&value.to_le_bytes()))?;
        }
    }
    file.flush()
}

fn tensors(shape: Shape) -> Vec<(String, Vec<usize>)> {
    let Shape { hidden, feed_forward, .. } = shape;
    let kv = shape.kv_heads * (hidden / shape.heads);
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![shape.vocabulary, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..shape.layers {
        for (name, dims) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![kv, hidden]),
            ("self_attn.v_proj", vec![kv, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![feed_forward, hidden]),
            ("mlp.up_proj", vec![feed_forward, hidden]),
            ("mlp.down_proj", vec![hidden, feed_forward]),
        ] {
            tensors.push((format!("model.layers.{layer}.{name}.weight"), dims));
        }
    }
    tensors
}
