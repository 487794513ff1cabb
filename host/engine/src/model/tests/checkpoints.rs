//! What a checkpoint's config.json and tensors mean, and which of them are refused.

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::parts;
use crate::{
    checkpoint::Files,
    error::LoadError,
    model::{
        config::{DecoderConfig, Kind},
        family,
    },
    tests::{folder, json_file},
};

#[test]
fn a_config_means_what_transformers_takes_it_for() {
    let read = |kind: Kind, changes: &Value| {
        let mut raw = json_file("llama", "config.json");
        for (key, value) in changes.as_object().unwrap() {
            raw[key.as_str()] = value.clone();
        }
        DecoderConfig::read(kind, &raw)
    };
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 1e6});
    let mut old = llama3.clone();
    old.as_object_mut().unwrap().remove("rope_theta");
    let rope = |changes: Value| read(Kind::Llama, &changes).unwrap().rope;
    let plain = rope(json!({}));
    assert_eq!(rope(json!({"rope_parameters": null, "rope_theta": 5e4})), plain);
    assert_ne!(rope(json!({"rope_parameters": null})), plain);
    let stretched = rope(json!({"rope_parameters": llama3}));
    assert_ne!(stretched, rope(json!({"rope_parameters": {"rope_theta": 1e6}})));
    assert_eq!(
        stretched,
        rope(json!({"rope_parameters": null, "rope_theta": 1e6, "rope_scaling": old}))
    );

    let windows = |kind: Kind, changes: Value| read(kind, &changes).unwrap().windows;
    assert_eq!(windows(Kind::Llama, json!({})), [None, None]);
    assert_eq!(windows(Kind::Mistral, json!({})), [Some(4096), Some(4096)]);
    assert_eq!(windows(Kind::Mistral, json!({"sliding_window": null})), [None, None]);
    assert_eq!(windows(Kind::Qwen2, json!({"sliding_window": 7})), [None, None]);
    let used = json!({"sliding_window": 7, "use_sliding_window": true, "max_window_layers": 1});
    assert_eq!(windows(Kind::Qwen3, used), [None, Some(7)]);
    assert_eq!(read(Kind::Qwen3, &json!({"head_dim": null})).unwrap().head, 128);
    assert!(read(Kind::Qwen2, &json!({})).unwrap().qkv_bias);
    assert!(read(Kind::Llama, &json!({"attention_bias": true})).unwrap().output_bias);

    for (kind, changes) in [
        (Kind::Llama, json!({"rope_parameters": {"rope_type": "longrope", "factor": 4.0}})),
        (
            Kind::Llama,
            json!({"rope_parameters": null, "rope_scaling": {"type": "dynamic", "factor": 2.0}}),
        ),
        (Kind::Llama, json!({"rope_parameters": {"rope_type": "llama3"}})),
        (
            Kind::Llama,
            json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "beta_fast": 1}}),
        ),
        (
            Kind::Llama,
            json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
        ),
        (Kind::Llama, json!({"rope_parameters": {"rope_type": 3}})),
        (Kind::Llama, json!({"rope_parameters": {"rope_theta": "1e6"}})),
        (Kind::Llama, json!({"rope_parameters": {"rope_theta": -1.0}})),
        (Kind::Llama, json!({"rope_parameters": {"partial_rotary_factor": "half"}})),
        (Kind::Llama, json!({"rope_parameters": "default"})),
        (Kind::Llama, json!({"rope_scaling": {"type": "linear", "factor": 2.0}})),
        (
            Kind::Llama,
            json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "beta_fast": "32"}}),
        ),
        (
            Kind::Llama,
            json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "truncate": 0}}),
        ),
        (Kind::Llama, json!({"rope_parameters": null, "rope_theta": true})),
        (Kind::Llama, json!({"rms_norm_eps": "1e-6"})),
        (Kind::Llama, json!({"hidden_act": 3})),
        (Kind::Qwen2, json!({"use_sliding_window": "yes"})),
        (Kind::Qwen2, json!({"max_window_layers": "all"})),
        (Kind::Qwen2, json!({"layer_types": "full_attention"})),
        (Kind::Llama, json!({"head_dim": 15})),
        (Kind::Llama, json!({"attention_bias": "yes"})),
        (Kind::Mistral, json!({"attention_bias": true})),
        (Kind::Llama, json!({"hidden_act": "gelu"})),
        (Kind::Llama, json!({"num_key_value_heads": 3})),
        (Kind::Llama, json!({"num_key_value_heads": 0})),
        (Kind::Llama, json!({"hidden_size": "many"})),
        (Kind::Llama, json!({"quantization_config": {"bits": 4}})),
        (Kind::Llama, json!({"sliding_window": 4096})),
        (Kind::Llama, json!({"logit_scale": 0.1})),
        (Kind::Qwen2, json!({"layer_types": ["full_attention"]})),
        (Kind::Qwen2, json!({"layer_types": ["full_attention", "sliding_attention"]})),
        (Kind::Qwen2, json!({"layer_types": ["full_attention", "linear_attention"]})),
    ] {
        assert!(read(kind, &changes).is_err(), "{kind:?} {changes}");
    }
    let off = json!({"quantization_config": null, "use_mrope": false, "pruned_heads": {}});
    assert!(read(Kind::Llama, &off).is_ok());
}

#[test]
fn families_and_tensors_that_are_missing_are_named() {
    let error = family(&json!({"model_type": "whisper"})).err().unwrap();
    assert_eq!(
        error.to_string(),
        "no model family for model_type \"whisper\"; known are llama, mistral, qwen2, qwen3, llava, qwen3_vl, gemma"
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

#[test]
fn tensors_that_nothing_reads_are_refused() {
    let build = |name: &str, tensor: &str, like: Option<&str>| {
        let raw = json_file(name, "config.json");
        let family = family(&raw).unwrap();
        let files = Files::Folder(folder(name));
        let mut parts = parts(&raw, &files, family.canonical);
        let other = match like {
            Some(like) => parts.tensors[like].clone(),
            None => Tensor::zeros(16, DType::F32, &Device::Cpu).unwrap(),
        };
        parts.tensors.insert((family.canonical)(tensor), other);
        (family.build)(parts).map(drop).map_err(|error| error.to_string())
    };
    for (name, tensor) in [
        ("llama", "model.layers.0.self_attn.q_norm.weight"),
        ("llama", "model.layers.1.self_attn.q_proj.bias"),
        ("llama", "model.layers.2.input_layernorm.weight"),
        ("llama", "model.inv_freq"),
        ("qwen2", "model.layers.0.self_attn.o_proj.bias"),
        ("qwen3", "model.layers.0.mlp.shared_expert_gate.weight"),
        ("llava", "language_model.model.layers.0.mlp.up_proj.bias"),
        ("llava", "image_newline"),
        ("llava", "multi_modal_projector.linear_3.weight"),
    ] {
        let error = build(name, tensor, None).unwrap_err();
        assert!(error.contains(&format!("tensor {tensor} is not supported")), "{name}: {error}");
    }
    for (name, tensor) in [
        ("llama", "model.layers.1.self_attn.rotary_emb.inv_freq"),
        ("llava", "language_model.model.rotary_emb.inv_freq"),
    ] {
        assert_eq!(build(name, tensor, None), Ok(()), "{name} {tensor}");
    }
    // A head that is tied may be in the file as well, but must be the embeddings.
    let embeddings = Some("model.embed_tokens.weight");
    assert_eq!(build("qwen3", "lm_head.weight", embeddings), Ok(()));
    let raw = json_file("qwen3", "config.json");
    let files = Files::Folder(folder("qwen3"));
    let build = |change: &dyn Fn(&Tensor) -> (Tensor, Tensor)| {
        let mut parts = parts(&raw, &files, str::to_owned);
        let (table, head) = change(&parts.tensors["model.embed_tokens.weight"]);
        parts.tensors.insert("model.embed_tokens.weight".to_owned(), table);
        parts.tensors.insert("lm_head.weight".to_owned(), head);
        (family(&raw).unwrap().build)(parts).map(|_| ()).map_err(|error| error.to_string())
    };
    let half = |it: &Tensor| it.to_dtype(DType::BF16).unwrap();
    let wide = |it: &Tensor| half(it).to_dtype(DType::F32).unwrap();
    let error = build(&|it| (it.clone(), (it * 2.0).unwrap())).unwrap_err();
    assert!(error.contains("tie_word_embeddings"), "{error}");
    // Rounded they would be the same.
    let error = build(&|it| (half(it), it.clone())).unwrap_err();
    assert!(error.contains("tie_word_embeddings"), "{error}");
    assert_eq!(build(&|it| (half(it), wide(it))), Ok(()));
}
