//! The fixture of Llama as a GGUF file: it says the same, and what would be misread is refused.

use std::{collections::HashMap, fs::File, slice};

use candle_core::{
    DType, Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value as Meta},
    },
};
use serde_json::{Value, json};

use super::{TOLERANCE, Text, golden, parts, say};
use crate::{
    checkpoint::{Files, Stored},
    error::LoadError,
    memory::CacheSize,
    model::{Gguf, Model, family},
    tests::{folder, json_file},
    tokenizer::tests::gguf_metadata,
};

/// The fixture as a GGUF file: its own names, and the order of rows that its rotary positions want.
fn gguf_tensors() -> HashMap<String, QTensor> {
    let names = [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
    ];
    let interleave = |tensor: &Tensor, heads: usize| {
        let (rows, columns) = tensor.dims2().unwrap();
        let split = tensor.reshape((heads, 2, rows / heads / 2, columns)).unwrap();
        split.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, columns)).unwrap()
    };
    let tensors = Files::Folder(folder("llama"))
        .tensors("model", &Device::Cpu, Stored::As(DType::F32))
        .unwrap();
    tensors
        .into_iter()
        .map(|(name, tensor)| {
            let short = names.iter().fold(name, |name, (long, short)| name.replace(long, short));
            let tensor = match short.as_str() {
                name if name.contains("attn_q.") => interleave(&tensor, 4),
                name if name.contains("attn_k.") => interleave(&tensor, 2),
                _ => tensor,
            };
            (short, QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        })
        .collect()
}

fn gguf_model(changes: &[(&str, Meta)]) -> Result<Box<dyn Model>, LoadError> {
    gguf_model_with(changes, &[])
}

/// With more tensors, of one dimension.
fn gguf_model_with(
    changes: &[(&str, Meta)],
    more: &[(&str, Vec<f32>)],
) -> Result<Box<dyn Model>, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut metadata = gguf_metadata("gpt-2");
    let settings = [
        ("general.architecture", Meta::String("llama".into())),
        ("llama.attention.head_count", Meta::U32(4)),
        ("llama.attention.head_count_kv", Meta::U32(2)),
        ("llama.block_count", Meta::U32(2)),
        ("llama.embedding_length", Meta::U32(64)),
        ("llama.rope.dimension_count", Meta::U32(16)),
        ("llama.rope.freq_base", Meta::F32(50_000.0)),
        ("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-6)),
        ("llama.context_length", Meta::U32(512)),
    ];
    for (key, value) in settings.iter().chain(changes) {
        metadata.insert((*key).to_owned(), value.clone());
    }
    let mut tensors = gguf_tensors();
    for (name, values) in more {
        let tensor = Tensor::new(values.as_slice(), &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, GgmlDType::F32).unwrap();
        tensors.insert((*name).to_owned(), tensor);
    }
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    Gguf::open(&path)?.load(&Device::Cpu, CacheSize::Bytes(1 << 24), false)
}

#[test]
fn a_gguf_file_says_what_the_reference_says() {
    let mut model = gguf_model(&[]).unwrap();
    assert_eq!(model.context(), 512);
    let lora = Files::Folder(folder("llama-lora"));
    assert_eq!(model.load_adapter("lora", &lora).unwrap().modules, 14);
    for (part, adapter) in [("base", None), ("lora", Some("lora".to_owned()))] {
        for golden in golden("llama", part) {
            let mut text = Text::new(&golden.prompt, 0);
            text.adapter.clone_from(&adapter);
            say(model.as_mut(), &mut text, golden.tokens.len());
            golden.check(&text, part);
        }
    }
}

#[test]
fn a_gguf_file_that_would_be_misread_is_refused() {
    for change in [
        ("general.architecture", Meta::String("gemma".into())),
        ("llama.expert_count", Meta::U32(8)),
        ("llama.rope.scaling.type", Meta::String("longrope".into())),
        ("llama.rope.scaling.factor", Meta::F32(f32::NAN)),
        ("llama.rope.scaling.yarn_log_multiplier", Meta::F32(0.1)),
        ("llama.logit_scale", Meta::F32(0.5)),
        ("llama.attention.causal", Meta::Bool(false)),
        ("llama.attention.sliding_window_pattern", Meta::U32(6)),
        ("llama.attention.head_count", Meta::U32(0)),
        ("llama.rope.dimension_count", Meta::U32(8)),
    ] {
        assert!(gguf_model(slice::from_ref(&change)).is_err(), "{change:?}");
    }
}

#[test]
fn keys_of_a_gguf_file_that_change_nothing_are_taken() {
    for change in [
        ("llama.rope.scaling.finetuned", Meta::Bool(true)),
        ("llama.rope.scaling.type", Meta::String("none".into())),
        ("llama.feed_forward_length", Meta::U32(128)),
        ("llama.attention.causal", Meta::Bool(true)),
        ("llama.logit_scale", Meta::F32(0.0)),
        ("llama.expert_count", Meta::U32(0)),
        ("qwen2.logit_scale", Meta::F32(0.5)),
    ] {
        let model = gguf_model(slice::from_ref(&change)).map(drop);
        assert!(model.is_ok(), "{change:?}: {model:?}");
    }
}

#[test]
fn tensors_of_a_gguf_file_that_nothing_reads_are_refused() {
    for (name, size) in [
        ("blk.0.attn_q_norm.bias", 16),
        ("blk.1.attn_k.bias", 32),
        ("blk.2.attn_norm.weight", 64),
        ("rope_factors_long.weight", 8),
    ] {
        let error = gguf_model_with(&[], &[(name, vec![1.0; size])]).err().unwrap().to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
    for wrong in [vec![1.0; 7], vec![0.0; 8], vec![f32::NAN; 8]] {
        assert!(gguf_model_with(&[], &[("rope_freqs.weight", wrong)]).is_err());
    }
}

/// Positions of a GGUF file turn as those of a config.json that says the same.
#[test]
fn positions_of_a_gguf_file_are_stretched() {
    let files = Files::Folder(folder("llama"));
    let prompt: Vec<u32> = (4..200).collect();
    let logits = |model: &mut dyn Model| {
        let mut text = Text::new(&prompt, 0);
        say(model, &mut text, 1);
        text.logits.remove(0)
    };
    let expected = |parameters: Value| {
        let mut raw = json_file("llama", "config.json");
        raw["rope_parameters"] = parameters;
        let mut model = (family(&raw).unwrap().build)(parts(&raw, &files, str::to_owned)).unwrap();
        logits(model.as_mut())
    };
    let distance =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let kind = |kind: &str| ("llama.rope.scaling.type", Meta::String(kind.into()));
    let factor = ("llama.rope.scaling.factor", Meta::F32(4.0));
    let original = ("llama.rope.scaling.original_context_length", Meta::U32(64));
    // What llama.cpp's converter computes of a Llama 3's config.json.
    let slower: Vec<f32> = (0..8)
        .map(|pair| {
            let wave = 2.0 * std::f32::consts::PI * 50_000f32.powf(pair as f32 / 8.0);
            let smooth = ((64.0 / wave - 1.0) / 3.0).clamp(0.0, 1.0);
            1.0 / ((1.0 - smooth) / 4.0 + smooth)
        })
        .collect();
    let linear = json!({"rope_type": "linear", "rope_theta": 5e4, "factor": 4.0});
    let yarn = json!({"rope_type": "yarn", "rope_theta": 5e4, "factor": 4.0,
        "original_max_position_embeddings": 64});
    let llama3 = json!({"rope_type": "llama3", "rope_theta": 5e4, "factor": 4.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
    let plain = expected(json!({"rope_type": "default", "rope_theta": 5e4}));
    let old = ("llama.rope.scale_linear", Meta::F32(4.0));
    for (settings, tensors, parameters) in [
        (vec![kind("linear"), factor.clone()], vec![], &linear),
        (vec![factor.clone()], vec![], &linear),
        (vec![old], vec![], &linear),
        (vec![kind("yarn"), factor, original], vec![], &yarn),
        (vec![], vec![("rope_freqs.weight", slower)], &llama3),
    ] {
        let mut model = gguf_model_with(&settings, &tensors).unwrap();
        let (found, expected) = (logits(model.as_mut()), expected(parameters.clone()));
        assert!(distance(&found, &expected) < TOLERANCE, "{settings:?} {parameters}");
        assert!(distance(&found, &plain) > 10.0 * TOLERANCE, "{settings:?} {parameters}");
    }
}
