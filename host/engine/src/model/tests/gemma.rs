//! Gemma, a model of candle-transformers: what it says, its activation, and what is refused.

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::{Text, golden, loaded, parts, say};
use crate::{
    checkpoint::Files,
    model::{Capacity, Run, family},
    tests::{folder, json_file},
};

/// A model of candle-transformers, which keeps the keys and values of one text inside.
#[test]
fn gemma_says_what_the_reference_says_one_text_at_a_time() {
    let mut model = loaded("gemma");
    assert_eq!(model.capacity(), Capacity { block_tokens: 512, blocks: 1, sequences: 1 });
    for (number, golden) in golden("gemma", "base").iter().enumerate() {
        for chunk in [1000, 7, 1] {
            let mut text = Text::new(&golden.prompt, 0);
            text.chunk = chunk;
            say(model.as_mut(), &mut text, golden.tokens.len());
            golden.check(&text, &format!("gemma {number}, {chunk} at once"));
        }
    }
    let good = Run {
        sequence: 1,
        tokens: &[7],
        position: 0,
        blocks: &[0],
        adapter: None,
        images: &[],
        areas: &[],
        logits: true,
    };
    for (runs, why) in [
        (vec![], "one sequence at a time"),
        (vec![good, Run { sequence: 2, ..good }], "one sequence at a time"),
        (vec![Run { position: 1, ..good }], "where the model is not"),
        (vec![Run { tokens: &[], ..good }], "without tokens"),
        (vec![Run { tokens: &[512], ..good }], "does not know"),
        (vec![Run { tokens: &[7; 513], ..good }], "context is full"),
        (vec![Run { adapter: Some("none"), ..good }], "takes none"),
    ] {
        let error = model.forward(&runs).unwrap_err();
        assert_eq!(error.error_type(), "internal");
        assert!(error.to_string().contains(why), "{error}: {why}");
    }
    assert_eq!(model.forward(&[good]).unwrap().dims(), [1, 512]);
    let next = Run { position: 1, logits: false, ..good };
    assert_eq!(model.forward(&[next]).unwrap().dims(), [0, 512]);
    // Another one's text is not gone on with, nor one that was forgotten.
    assert!(model.forward(&[Run { sequence: 2, position: 2, ..good }]).is_err());
    model.forward(&[good]).unwrap();
    model.forget(1);
    assert!(model.forward(&[next]).is_err());
    assert!(model.load_adapter("lora", &Files::Folder(folder("llama-lora"))).is_err());
}

#[test]
fn the_activation_of_gemma_is_that_of_transformers_5() {
    let golden = golden("gemma", "base");
    for changes in [
        json!({"hidden_act": "gelu"}),
        json!({"hidden_act": null}),
        json!({"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}),
        json!({"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu"}),
    ] {
        let mut raw = json_file("gemma", "config.json");
        for (key, value) in changes.as_object().unwrap() {
            raw[key.as_str()] = value.clone();
        }
        let files = Files::Folder(folder("gemma"));
        let parts = parts(&raw, &files, str::to_owned);
        let mut model = (family(&raw).unwrap().build)(parts).unwrap();
        for golden in &golden {
            let mut text = Text::new(&golden.prompt, 0);
            say(model.as_mut(), &mut text, golden.tokens.len());
            golden.check(&text, &changes.to_string());
        }
    }
}

#[test]
fn a_gemma_that_would_be_misread_is_refused() {
    let build = |changes: &Value, tensor: Option<&str>| {
        let mut raw = json_file("gemma", "config.json");
        for (key, value) in changes.as_object().unwrap() {
            raw[key.as_str()] = value.clone();
        }
        let files = Files::Folder(folder("gemma"));
        let mut parts = parts(&raw, &files, str::to_owned);
        if let Some(name) = tensor {
            let tensor = Tensor::zeros(64, DType::F32, &Device::Cpu).unwrap();
            parts.tensors.insert(name.to_owned(), tensor);
        }
        (family(&raw).unwrap().build)(parts).map(drop)
    };
    for changes in [
        json!({"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}),
        json!({"rope_parameters": null, "rope_theta": 1e4, "rope_scaling": null}),
        json!({"torch_dtype": "bfloat16"}),
    ] {
        let built = build(&changes, None);
        assert!(built.is_ok(), "{changes}: {built:?}");
    }
    for (changes, tensor) in [
        (json!({"hidden_act": "silu"}), None),
        (json!({"hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh"}), None),
        (json!({"tie_word_embeddings": false}), None),
        (json!({"use_bidirectional_attention": true}), None),
        (json!({"final_logit_softcapping": 30.0}), None),
        (json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}), None),
        (json!({"rope_parameters": {"rope_theta": 1e4, "factor": 2.0}}), None),
        (json!({"rope_parameters": {"rope_theta": "1e4"}}), None),
        (json!({"rope_parameters": 7}), None),
        (json!({"rope_parameters": null, "rope_theta": "1e4"}), None),
        (json!({"rope_scaling": {"type": "yarn", "factor": 2.0}}), None),
        (json!({"rms_norm_eps": "1e-6"}), None),
        (json!({"attention_bias": "yes"}), None),
        (json!({"tie_word_embeddings": 1}), None),
        (json!({"num_key_value_heads": 3}), None),
        (json!({"num_hidden_layers": 1}), None),
        (json!({"num_hidden_layers": 3}), None),
        (json!({"attention_bias": true}), None),
        (json!({}), Some("model.layers.0.self_attn.q_proj.bias")),
        (json!({}), Some("model.layers.0.pre_feedforward_layernorm.weight")),
        (json!({}), Some("lm_head.weight")),
    ] {
        assert!(build(&changes, tensor).is_err(), "{changes} {tensor:?}");
    }
}
