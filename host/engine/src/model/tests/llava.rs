//! LLaVA with the towers of CLIP and SigLIP: what it says of images, what its config.json chooses, and what is refused.

use ::image::{DynamicImage, Rgb, RgbImage};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::{SEEING, TOLERANCE, Text, loaded, numbers, parts, pixels, say, tokens};
use crate::{
    checkpoint::Files,
    image::Preprocess,
    model::{ImageTokens, Model, Placed, Run, family, llava::canonical},
    tests::{folder, json_file},
};

/// Greedy tokens and first logits have to be those of the reference implementation.
fn check(model: &mut dyn Model, golden: &Value, images: &[Tensor], chunk: usize, case: &str) {
    let expected = tokens(&golden["tokens"]);
    let mut text = Text::new(&tokens(&golden["prompt"]), 0);
    text.chunk = chunk;
    text.images = images.iter().map(|image| model.look(image).unwrap()).collect();
    say(model, &mut text, expected.len());
    for (found, expected) in text.logits[0].iter().zip(numbers(&golden["first_logits"])) {
        assert!((found - expected).abs() < TOLERANCE, "{case}: {found} {expected}");
    }
    assert_eq!(text.said, expected, "{case}");
}

#[test]
fn llava_says_what_the_reference_says() {
    for (name, cases) in SEEING {
        let golden = json_file(name, "golden.json");
        let mut model = loaded(name);
        for (case, images) in cases {
            let images: Vec<_> = images.iter().map(|image| pixels(&golden[*image])).collect();
            for chunk in [1000, 5] {
                let what = format!("{name} {case}, {chunk} at once");
                check(model.as_mut(), &golden[*case], &images, chunk, &what);
            }
        }
        assert_eq!(model.vision().unwrap().tokens, ImageTokens::Fixed(16), "{name}");
    }
}

#[test]
fn features_are_those_that_config_json_chooses() {
    let golden = json_file("llava-siglip", "golden.json");
    let files = Files::Folder(folder("llava-siglip"));
    for choice in golden["choices"].as_array().unwrap() {
        let mut raw = json_file("llava-siglip", "config.json");
        raw["vision_feature_layer"] = choice["layer"].clone();
        raw["vision_feature_select_strategy"] = choice["strategy"].clone();
        let mut model = (family(&raw).unwrap().build)(parts(&raw, &files, canonical)).unwrap();
        let case = format!("layer {}", choice["layer"]);
        check(model.as_mut(), choice, &[pixels(&golden["pixels"])], 1000, &case);
        let tokens = usize::try_from(choice["nimg"].as_u64().unwrap()).unwrap();
        assert_eq!(model.vision().unwrap().tokens, ImageTokens::Fixed(tokens), "{case}");
    }
}

#[test]
fn towers_that_would_be_misread_are_refused() {
    const OUTER: [&str; 6] = [
        "image_grid_pinpoints",
        "image_seq_length",
        "mm_hidden_size",
        "multimodal_projector_bias",
        "quantization_config",
        "use_image_newline_parameter",
    ];
    let build = |name: &str, changes: &Value, tensor: Option<&str>| {
        let mut raw = json_file(name, "config.json");
        for (key, value) in changes.as_object().unwrap() {
            let part = match key.starts_with("vision_feature") || OUTER.contains(&key.as_str()) {
                true => &mut raw,
                false => &mut raw["vision_config"],
            };
            part[key.as_str()] = value.clone();
        }
        let files = Files::Folder(folder(name));
        let mut parts = parts(&raw, &files, canonical);
        if let Some(name) = tensor {
            let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
            parts.tensors.insert(canonical(name), tensor);
        }
        (family(&raw).unwrap().build)(parts).map(drop)
    };
    let (clip, siglip) = ("llava", "llava-siglip");
    for (name, changes, tensor) in [
        (siglip, json!({}), None),
        (siglip, json!({"vision_use_head": false, "output_attentions": true}), None),
        (siglip, json!({"use_rope": false, "hidden_act": null, "num_channels": null}), None),
        (siglip, json!({}), Some("vision_tower.vision_model.head.extra")),
        (siglip, json!({}), Some("model.vision_tower.vision_model.embeddings.position_ids")),
        (clip, json!({"hidden_act": "gelu", "layer_norm_eps": 1e-6, "vocab_size": 32000}), None),
        (clip, json!({}), Some("vision_tower.embeddings.position_ids")),
        (clip, json!({"image_seq_length": 16, "use_image_newline_parameter": false}), None),
        (clip, json!({"multimodal_projector_bias": null, "vision_feature_layer": null}), None),
    ] {
        let built = build(name, &changes, tensor);
        assert!(built.is_ok(), "{name} {changes} {tensor:?}: {built:?}");
    }
    for (name, changes, tensor) in [
        (siglip, json!({"model_type": "dinov2"}), None),
        (siglip, json!({"model_type": "clip_vision_model"}), None),
        (siglip, json!({"hidden_act": "relu"}), None),
        (siglip, json!({"hidden_act": 3}), None),
        (siglip, json!({"layer_norm_eps": "small"}), None),
        (siglip, json!({"rope_theta": 1e4}), None),
        (siglip, json!({"num_attention_heads": 3}), None),
        (siglip, json!({"num_channels": 1}), None),
        (siglip, json!({"image_size": [34, 34]}), None),
        (siglip, json!({"image_size": 4}), None),
        (siglip, json!({"image_size": 39}), None),
        (siglip, json!({"image_size": 1_000_000_000_000_u64}), None),
        (siglip, json!({"num_hidden_layers": 2}), None),
        (siglip, json!({"num_hidden_layers": 4}), None),
        (siglip, json!({"vision_feature_layer": 4}), None),
        (siglip, json!({"vision_feature_layer": -5}), None),
        (siglip, json!({"vision_feature_layer": [-2, -1]}), None),
        (siglip, json!({"vision_feature_select_strategy": "cls"}), None),
        (siglip, json!({"vision_feature_select_strategy": 3}), None),
        (siglip, json!({"image_grid_pinpoints": [[34, 68]]}), None),
        (siglip, json!({"use_image_newline_parameter": true}), None),
        (siglip, json!({"multimodal_projector_bias": "yes"}), None),
        (siglip, json!({"mm_hidden_size": 32}), None),
        (siglip, json!({"quantization_config": {"bits": 4}}), None),
        (siglip, json!({}), Some("vision_tower.embeddings.class_embedding")),
        (siglip, json!({}), Some("vision_tower.vision_model.pre_layrnorm.weight")),
        (clip, json!({"model_type": "siglip_vision_model"}), None),
        (clip, json!({"num_hidden_layers": 2}), None),
        (clip, json!({}), Some("vision_tower.head.probe")),
        (clip, json!({}), Some("vision_tower.embeddings.patch_embedding.bias")),
    ] {
        assert!(build(name, &changes, tensor).is_err(), "{name} {changes} {tensor:?}");
    }
}

#[test]
fn siglip_sees_whole_images() {
    let golden = json_file("llava-siglip", "golden.json");
    let model = loaded("llava-siglip");
    let preprocess = &model.vision().unwrap().preprocess;
    let named = json!({"image_processor_type": "SiglipImageProcessor"});
    let other = json!({"size": {"height": 40, "width": 40}});
    assert_eq!(*preprocess, Preprocess::siglip(None, 34).unwrap());
    assert_eq!(*preprocess, Preprocess::new(Some(&named), 34).unwrap());
    assert_ne!(*preprocess, Preprocess::new(None, 34).unwrap());
    // It would be cut to the tower's size.
    assert!(Preprocess::siglip(Some(&other), 34).is_err());

    let picture = RgbImage::from_fn(50, 40, |x, y| {
        Rgb([x * 255 / 49, y * 255 / 39, (x + y) * 255 / 88].map(|value| value as u8))
    });
    let prepared = preprocess.apply(&DynamicImage::from(picture)).unwrap();
    let prepared: Vec<f32> = prepared.flatten_all().unwrap().to_vec1().unwrap();
    for (found, expected) in prepared.iter().step_by(11).zip(numbers(&golden["prepared"])) {
        // Pillow rounds to bytes between the two directions: a byte may be another by two.
        assert!((found - expected).abs() < 2.1 / 127.5, "{found} {expected}");
    }
}

#[test]
fn every_spelling_of_llava_is_the_same_model() {
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
    for (name, _) in SEEING {
        let (golden, raw) = (json_file(name, "golden.json"), json_file(name, "config.json"));
        let files = Files::Folder(folder(name));
        for (case, spelling) in spellings {
            let parts = parts(&raw, &files, |name| canonical(&spelling(name)));
            let mut model = (family(&raw).unwrap().build)(parts).unwrap();
            check(model.as_mut(), &golden["a"], &[pixels(&golden["pixels"])], 1000, case);
        }
    }
}

#[test]
fn each_image_fills_its_own_place() {
    let golden = json_file("llava", "golden.json");
    let mut model = loaded("llava");
    let (a, b) = (pixels(&golden["pixels"]), pixels(&golden["pixels2"]));
    let place = [3u32; 16];
    let prompt = [&[47, 48][..], &place[..], &[50][..], &place[..], &[60][..]].concat();
    let (a, b) = (model.look(&a).unwrap(), model.look(&b).unwrap());
    let mut logits = |images: [&Tensor; 2], chunk: usize| {
        let mut text = Text::new(&prompt, 0);
        text.images = images.into_iter().cloned().collect();
        text.chunk = chunk;
        say(model.as_mut(), &mut text, 1);
        text.logits.remove(0)
    };
    let ab = logits([&a, &b], 1000);
    assert_ne!(ab, logits([&b, &a], 1000));
    // A piece of the prompt may end within an image.
    assert_eq!(ab, logits([&a, &b], 11));

    let whole = Placed { at: 2, features: &a, rows: (0, 16) };
    let run = |images| Run {
        sequence: 1,
        tokens: &prompt,
        position: 0,
        blocks: &[0, 1, 2],
        adapter: None,
        images,
        areas: &[],
        logits: true,
    };
    let cases = [
        (vec![], false),
        (vec![whole], false),
        (vec![whole, Placed { at: 18, ..whole }], false),
        (vec![whole, Placed { at: 19, rows: (0, 15), ..whole }], false),
        (vec![whole, Placed { at: 30, ..whole }], false),
        (vec![whole, Placed { at: 19, ..whole }], true),
    ];
    for (images, fits) in &cases {
        assert_eq!(model.forward(&[run(images)]).is_ok(), *fits, "{}", images.len());
    }
}
