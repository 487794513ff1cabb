use std::collections::HashMap;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::{AdapterError, Change, LoraConfig};
use crate::tests::json_file;

fn config(changes: &Value) -> Value {
    let mut config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"});
    for (key, value) in changes.as_object().unwrap() {
        config[key.as_str()] = value.clone();
    }
    config
}

fn tensors(shapes: &[(&str, usize, usize)]) -> HashMap<String, Tensor> {
    let one = |rows: usize, columns: usize| {
        Tensor::ones((rows, columns), candle_core::DType::F32, &Device::Cpu)
    };
    shapes
        .iter()
        .map(|(name, rows, columns)| ((*name).to_owned(), one(*rows, *columns).unwrap()))
        .collect()
}

fn changes(settings: &Value, lora: &[(&str, usize, usize)]) -> Result<Vec<Change>, AdapterError> {
    LoraConfig::new(&config(settings))?.changes(tensors(lora))
}

const A: (&str, usize, usize) = ("base_model.model.model.layers.0.q_proj.lora_A.weight", 2, 5);
const B: (&str, usize, usize) = ("base_model.model.model.layers.0.q_proj.lora_B.weight", 3, 2);

#[test]
fn the_change_is_scaled() {
    for (settings, scale) in [
        (json!({}), 4.0 / 2.0),
        (json!({"use_rslora": true}), 4.0 / 2f64.sqrt()),
        (json!({"alpha_pattern": {"q_proj": 1}}), 1.0 / 2.0),
        (json!({"alpha_pattern": {"layers.0.q_proj": 6}}), 6.0 / 2.0),
        (json!({"alpha_pattern": {"proj": 1, "k_proj": 1}}), 4.0 / 2.0),
        (json!({"r": 8, "rank_pattern": {"q_proj": 2}}), 4.0 / 2.0),
        (json!({"r": 8, "rank_pattern": {".*q_proj": 2}}), 4.0 / 2.0),
        (json!({"r": null}), 4.0 / 2.0),
        (json!({"r": 8, "rank_pattern": {"q_proj": 2}, "use_rslora": true}), 4.0 / 2f64.sqrt()),
    ] {
        let changes = changes(&settings, &[A, B]).unwrap();
        let [change] = &changes[..] else { panic!("{settings}: {} changes", changes.len()) };
        assert_eq!(change.module, "model.layers.0.q_proj");
        assert_eq!((change.a.dims(), change.b.dims()), (&[2, 5][..], &[3, 2][..]));
        assert!((change.scale - scale).abs() < 1e-9, "{settings}: {}", change.scale);
    }
}

#[test]
fn settings_that_cannot_be_used_are_refused_by_name() {
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("use_dora", json!(true)),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!({"nblocks": 2})),
        ("lora_bias", json!(true)),
        ("bias", json!("all")),
        ("bias", json!("lora_only")),
        ("lora_alpha", json!(null)),
        ("modules_to_save", json!(["lm_head"])),
        ("fan_in_fan_out", json!(true)),
        ("target_parameters", json!(["experts"])),
        ("trainable_token_indices", json!([1])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("arrow_config", json!({"top_k": 3})),
        ("kasa_config", json!({"beta": 1})),
        ("monteclora_config", json!({"num_samples": 8})),
        ("velora_config", json!({"num_groups": 4})),
        ("ensure_weight_tying", json!(true)),
        ("layer_replication", json!([[0, 4]])),
        ("alpha_pattern", json!({".*q_proj": 1})),
        ("alpha_pattern", json!(["q_proj"])),
        ("rank_pattern", json!("q_proj")),
        ("r", json!("many")),
        ("use_rslora", json!("yes")),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("loftq")),
        ("use_something_of_next_year", json!(1)),
    ] {
        let error = LoraConfig::new(&config(&json!({key: value}))).unwrap_err().to_string();
        assert!(error.contains(key), "{key} {value}: {error}");
    }
}

#[test]
fn settings_that_change_nothing_are_taken() {
    for settings in [
        json!({"use_dora": false, "modules_to_save": null, "layer_replication": []}),
        json!({"loftq_config": {"loftq_bits": 4}, "qalora_group_size": 16, "lora_dropout": 0.1}),
        json!({"layers_to_transform": [0], "layers_pattern": "layers", "target_modules": "q_proj"}),
        json!({"init_lora_weights": "gaussian", "megatron_core": "megatron.core"}),
        json!({"use_something_of_next_year": false, "another": null, "third": {}, "fourth": ""}),
        json!({"bias": null, "use_rslora": null, "alpha_pattern": null, "rank_pattern": null}),
    ] {
        let config = LoraConfig::new(&config(&settings));
        assert!(config.is_ok(), "{settings}: {config:?}");
    }
    for adapter in ["llama-lora", "llama-lora-b", "qwen3-lora"] {
        LoraConfig::new(&json_file(adapter, "adapter_config.json")).unwrap();
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    type Check = fn(&AdapterError) -> bool;
    let cases: [(&[(&str, usize, usize)], Check); 7] = [
        (&[], |e| *e == AdapterError::Empty),
        (&[A], |e| matches!(e, AdapterError::Unpaired(_))),
        (&[B], |e| matches!(e, AdapterError::Unpaired(_))),
        (&[A, (B.0, 3, 1)], |e| matches!(e, AdapterError::Pair(_))),
        (&[(A.0, 0, 5), (B.0, 3, 0)], |e| matches!(e, AdapterError::Pair(_))),
        (&[(A.0, 3, 5), (B.0, 3, 3)], |e| matches!(e, AdapterError::Rank { .. })),
        (&[A, B, ("base_model.model.lm_head.weight", 1, 1)], |e| {
            matches!(e, AdapterError::UnknownTensor(_))
        }),
    ];
    for (lora, expected) in cases {
        let Err(error) = changes(&json!({}), lora) else { panic!("{lora:?} was taken") };
        assert!(expected(&error), "{lora:?}: {error}");
    }
}
