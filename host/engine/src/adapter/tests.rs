use std::collections::HashMap;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::{AdapterError, LoraConfig};

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

fn merge(changes: &Value, lora: &[(&str, usize, usize)]) -> Result<Vec<f32>, AdapterError> {
    let mut model = tensors(&[("model.layers.0.q_proj.weight", 3, 5)]);
    LoraConfig::new(&config(changes))?.merge(&tensors(lora), &mut model, str::to_owned)?;
    Ok(model["model.layers.0.q_proj.weight"].flatten_all().unwrap().to_vec1().unwrap())
}

const A: (&str, usize, usize) = ("base_model.model.model.layers.0.q_proj.lora_A.weight", 2, 5);
const B: (&str, usize, usize) = ("base_model.model.model.layers.0.q_proj.lora_B.weight", 3, 2);

#[test]
fn the_change_is_scaled() {
    // Ones times ones of rank 2 is 2 everywhere, on top of a weight of 1.
    for (changes, scale) in [
        (json!({}), 4.0 / 2.0),
        (json!({"use_rslora": true}), 4.0 / 2f32.sqrt()),
        (json!({"alpha_pattern": {"q_proj": 1}}), 1.0 / 2.0),
        (json!({"alpha_pattern": {"layers.0.q_proj": 6}}), 6.0 / 2.0),
        (json!({"alpha_pattern": {"proj": 1, "k_proj": 1}}), 4.0 / 2.0),
    ] {
        let values = merge(&changes, &[A, B]).unwrap();
        assert_eq!(values.len(), 15);
        for value in values {
            assert!((value - (1.0 + 2.0 * scale)).abs() < 1e-5, "{changes}: {value}");
        }
    }
}

#[test]
fn settings_that_cannot_be_merged_are_refused() {
    for changes in [
        json!({"peft_type": "IA3"}),
        json!({"use_dora": true}),
        json!({"bias": "all"}),
        json!({"lora_alpha": null}),
        json!({"modules_to_save": ["lm_head"]}),
        json!({"fan_in_fan_out": true}),
        json!({"target_parameters": ["experts"]}),
        json!({"alora_invocation_tokens": [1, 2]}),
        json!({"layer_replication": [[0, 4]]}),
        json!({"alpha_pattern": {".*q_proj": 1}}),
    ] {
        assert!(LoraConfig::new(&config(&changes)).is_err(), "{changes}");
    }
    let harmless = json!({"use_dora": false, "modules_to_save": null, "layer_replication": [], "loftq_config": {}});
    assert!(LoraConfig::new(&config(&harmless)).is_ok());
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    type Check = fn(&AdapterError) -> bool;
    let other = "base_model.model.model.layers.9.q_proj.lora_A.weight";
    let other_b = "base_model.model.model.layers.9.q_proj.lora_B.weight";
    let cases: [(&[(&str, usize, usize)], Check); 8] = [
        (&[], |e| *e == AdapterError::Empty),
        (&[A], |e| matches!(e, AdapterError::Unpaired(_))),
        (&[B], |e| matches!(e, AdapterError::Unpaired(_))),
        (&[A, B, (other, 2, 5), (other_b, 3, 2)], |e| matches!(e, AdapterError::UnknownTarget(_))),
        (&[(A.0, 2, 4), B], |e| matches!(e, AdapterError::Shape { .. })),
        (&[A, (B.0, 3, 1)], |e| matches!(e, AdapterError::Shape { .. })),
        (&[A, (B.0, 5, 2)], |e| matches!(e, AdapterError::Shape { .. })),
        (&[A, B, ("base_model.model.lm_head.weight", 1, 1)], |e| {
            matches!(e, AdapterError::UnknownTensor(_))
        }),
    ];
    for (lora, expected) in cases {
        let error = merge(&json!({}), lora).unwrap_err();
        assert!(expected(&error), "{lora:?}: {error}");
    }
}
