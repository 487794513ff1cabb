use std::collections::HashMap;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::{AdapterError, Change, LoraConfig};

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
    ] {
        let changes = changes(&settings, &[A, B]).unwrap();
        let [change] = &changes[..] else { panic!("{settings}: {} changes", changes.len()) };
        assert_eq!(change.module, "model.layers.0.q_proj");
        assert_eq!((change.a.dims(), change.b.dims()), (&[2, 5][..], &[3, 2][..]));
        assert!((change.scale - scale).abs() < 1e-9, "{settings}: {}", change.scale);
    }
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
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
    let cases: [(&[(&str, usize, usize)], Check); 6] = [
        (&[], |e| *e == AdapterError::Empty),
        (&[A], |e| matches!(e, AdapterError::Unpaired(_))),
        (&[B], |e| matches!(e, AdapterError::Unpaired(_))),
        (&[A, (B.0, 3, 1)], |e| matches!(e, AdapterError::Pair(_))),
        (&[(A.0, 0, 5), (B.0, 3, 0)], |e| matches!(e, AdapterError::Pair(_))),
        (&[A, B, ("base_model.model.lm_head.weight", 1, 1)], |e| {
            matches!(e, AdapterError::UnknownTensor(_))
        }),
    ];
    for (lora, expected) in cases {
        let Err(error) = changes(&json!({}), lora) else { panic!("{lora:?} was taken") };
        assert!(expected(&error), "{lora:?}: {error}");
    }
}
