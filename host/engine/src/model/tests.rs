use std::{collections::HashMap, fs::File, slice};

use candle_core::{
    DType, Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value as Meta},
    },
};
use serde_json::{Value, json};

use super::{Gguf, Parts, Prompt, Solo, family, llama::text_config, llava::canonical};
use crate::{
    adapter,
    checkpoint::Files,
    error::LoadError,
    tests::{folder, json_file},
    tokenizer::tests::gguf_metadata,
};

const NEVER: &dyn Fn() -> bool = &|| false;

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    let token = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    value.as_array().unwrap().iter().map(token).collect()
}

fn pixels(value: &Value) -> Tensor {
    Tensor::from_vec(numbers(value), (3, 32, 32), &Device::Cpu).unwrap()
}

/// Greedy tokens and first logits have to be those of the reference implementation.
fn check(model: &mut dyn Solo, golden: &Value, images: &[Tensor], case: &str) {
    let prompt = tokens(&golden["prompt"]);
    let expected = tokens(&golden["tokens"]);
    let mut logits =
        model.prefill(&Prompt { tokens: &prompt, images, interrupted: NEVER }).unwrap();
    let first = logits.to_vec1::<f32>().unwrap();
    for (found, expected) in first.iter().zip(numbers(&golden["first_logits"])) {
        assert!((found - expected).abs() < 1e-4, "{case}: {found} {expected}");
    }
    let mut found = Vec::new();
    while found.len() < expected.len() {
        let token = logits.argmax(0).unwrap().to_scalar::<u32>().unwrap();
        found.push(token);
        logits = model.step(token).unwrap();
    }
    assert_eq!(found, expected, "{case}");
}

fn parts<'a>(config: &'a Value, files: &'a Files, rename: impl Fn(&str) -> String) -> Parts<'a> {
    let tensors = files
        .tensors("model", &Device::Cpu, DType::F32)
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (rename(&name), tensor))
        .collect();
    Parts { config, files, tensors, device: &Device::Cpu, dtype: DType::F32 }
}

fn build(name: &str, adapter: Option<&str>) -> Box<dyn Solo> {
    let (raw, files) = (json_file(name, "config.json"), Files::Folder(folder(name)));
    let family = family(&raw).unwrap();
    let mut parts = parts(&raw, &files, family.canonical);
    if let Some(adapter) = adapter {
        let files = Files::Folder(folder(adapter));
        let modules =
            adapter::merge(&files, &mut parts.tensors, family.canonical, &Device::Cpu).unwrap();
        assert_eq!(modules, 14);
    }
    (family.build)(parts).unwrap()
}

#[test]
fn llama_and_its_adapter_say_what_the_reference_says() {
    let golden = json_file("llama", "golden.json");
    let (mut base, mut adapted) = (build("llama", None), build("llama", Some("llama-lora")));
    for case in ["first", "again, after the other"] {
        check(base.as_mut(), &golden["base"], &[], case);
        check(adapted.as_mut(), &golden["lora"], &[], case);
    }
}

#[test]
fn llava_says_what_the_reference_says() {
    let golden = json_file("llava", "golden.json");
    let mut model = build("llava", None);
    let model = model.as_mut();
    for (case, image) in [("a", "pixels"), ("b", "pixels2"), ("a", "pixels")] {
        check(model, &golden[case], &[pixels(&golden[image])], case);
    }
    assert_eq!(model.vision().unwrap().tokens_per_image, 16);
}

#[test]
fn every_spelling_of_llava_is_the_same_model() {
    let (golden, raw) = (json_file("llava", "golden.json"), json_file("llava", "config.json"));
    let files = Files::Folder(folder("llava"));
    let newer = |name: &str| {
        name.strip_prefix("language_model.lm_head.").map_or_else(
            || match name.strip_prefix("language_model.model.") {
                Some(rest) => format!("model.language_model.{rest}"),
                None => format!("model.{name}"),
            },
            |rest| format!("lm_head.{rest}"),
        )
    };
    let older = |name: &str| name.replacen("vision_tower.", "vision_tower.vision_model.", 1);
    let spellings: [(&str, &dyn Fn(&str) -> String); 2] = [("newer", &newer), ("older", &older)];
    for (case, spelling) in spellings {
        let parts = parts(&raw, &files, |name| canonical(&spelling(name)));
        let mut model = (family(&raw).unwrap().build)(parts).unwrap();
        check(model.as_mut(), &golden["a"], &[pixels(&golden["pixels"])], case);
    }
}

#[test]
fn each_image_fills_its_own_place() {
    let golden = json_file("llava", "golden.json");
    let mut model = build("llava", None);
    let model = model.as_mut();
    let (a, b) = (pixels(&golden["pixels"]), pixels(&golden["pixels2"]));
    let place = [3u32; 16];
    let prompt = [&[47, 48][..], &place[..], &[50][..], &place[..], &[60][..]].concat();
    let mut logits = |images: &[Tensor]| {
        let prompt = Prompt { tokens: &prompt, images, interrupted: NEVER };
        model.prefill(&prompt).map(|logits| logits.to_vec1::<f32>().unwrap())
    };
    let ab = logits(&[a.clone(), b.clone()]).unwrap();
    let ba = logits(&[b.clone(), a.clone()]).unwrap();
    assert_ne!(ab, ba);
    assert_eq!(ab, logits(&[a.clone(), b.clone()]).unwrap());
    assert!(logits(slice::from_ref(&a)).is_err());
    assert!(logits(&[a.clone(), b, a]).is_err());
}

#[test]
fn a_prompt_nobody_waits_for_ends() {
    let mut model = build("llava", None);
    let prompt = Prompt { tokens: &[5, 6, 7], images: &[], interrupted: &|| true };
    let error = model.prefill(&prompt).unwrap_err();
    assert_eq!(error.error_type(), "cancelled");
}

#[test]
fn a_full_context_is_an_error_and_no_panic() {
    let mut model = build("llama", None);
    let model = model.as_mut();
    assert_eq!(model.context(), 512);
    let prompt = |tokens| Prompt { tokens, images: &[], interrupted: NEVER };
    model.prefill(&prompt(&[7; 512])).unwrap();
    assert_eq!(model.step(7).unwrap_err().error_type(), "internal");
    assert_eq!(model.prefill(&prompt(&[7; 513])).unwrap_err().error_type(), "prompt_too_long");
}

#[test]
fn config_of_every_version_is_read() {
    let raw = |changes: Value| {
        let mut raw = json_file("llama", "config.json");
        for (key, value) in changes.as_object().unwrap() {
            raw[key.as_str()] = value.clone();
        }
        text_config(&raw)
    };
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 7.0});
    for (changes, theta, scaled) in [
        (json!({}), 50_000.0, false),
        (json!({"rope_parameters": null, "rope_theta": 1e6}), 1e6, false),
        (json!({"rope_parameters": null, "rope_scaling": null}), 1e4, false),
        (json!({"rope_parameters": llama3.clone()}), 7.0, true),
        (json!({"rope_parameters": null, "rope_scaling": llama3, "rope_theta": 5.0}), 5.0, true),
    ] {
        let config = raw(changes.clone()).unwrap();
        assert_eq!(
            (config.rope_theta, config.rope_scaling.is_some()),
            (theta, scaled),
            "{changes}"
        );
    }
    for changes in [
        json!({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}),
        json!({"rope_parameters": null, "rope_scaling": {"type": "linear", "factor": 2.0}}),
        json!({"rope_parameters": {"rope_type": "llama3"}}),
        json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
        json!({"head_dim": 32}),
        json!({"attention_bias": true}),
        json!({"hidden_act": "gelu"}),
        json!({"num_attention_heads": 5}),
        json!({"num_key_value_heads": 0}),
        json!({"hidden_size": "many"}),
    ] {
        assert!(raw(changes.clone()).is_err(), "{changes}");
    }
}

#[test]
fn families_and_tensors_that_are_missing_are_named() {
    let error = family(&json!({"model_type": "whisper"})).err().unwrap();
    assert_eq!(
        error.to_string(),
        "no model family for model_type \"whisper\"; known are llama, llava"
    );
    assert!(family(&json!({"architectures": ["LlamaForCausalLM"]})).is_ok());

    let raw = json_file("llama", "config.json");
    let files = Files::Folder(folder("llama"));
    let lost = "model.layers.1.mlp.up_proj.weight";
    let mut parts = parts(&raw, &files, str::to_owned);
    parts.tensors.remove(lost);
    let Err(LoadError::MissingTensor { name }) = (family(&raw).unwrap().build)(parts) else {
        panic!("a checkpoint without {lost} was loaded");
    };
    assert_eq!(name, lost);
}

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
    let tensors =
        Files::Folder(folder("llama")).tensors("model", &Device::Cpu, DType::F32).unwrap();
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

fn gguf_model(changes: &[(&str, Meta)]) -> Result<Box<dyn Solo>, LoadError> {
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
    let tensors = gguf_tensors();
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(&path).unwrap(), &metadata, &tensors).unwrap();
    Gguf::open(&path)?.load(&Device::Cpu)
}

#[test]
fn a_gguf_file_says_what_the_reference_says() {
    let golden = json_file("llama", "golden.json");
    let mut model = gguf_model(&[]).unwrap();
    assert_eq!(model.context(), 512);
    for case in ["first", "again"] {
        check(model.as_mut(), &golden["base"], &[], case);
    }
}

#[test]
fn a_gguf_file_that_would_be_misread_is_refused() {
    for change in [
        ("general.architecture", Meta::String("qwen2".into())),
        ("llama.rope.scaling.type", Meta::String("yarn".into())),
        ("llama.attention.head_count", Meta::U32(0)),
        ("llama.rope.dimension_count", Meta::U32(8)),
    ] {
        assert!(gguf_model(slice::from_ref(&change)).is_err(), "{change:?}");
    }
}
