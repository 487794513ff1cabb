//! Qwen3-VL, whose images have any size: against what transformers says in the fixture's golden.json.

use ::image::{DynamicImage, Rgb, RgbImage};
use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::{TOLERANCE, Text, numbers, parts, say, step, tokens};
use crate::{
    checkpoint::Files,
    error::LoadError,
    model::{
        Area, Extent, ImageTokens, Model, Run, family,
        places::{Axis, places},
        qwen3_vl::{Qwen3Vl, canonical},
        rope::Rope,
    },
    tests::{folder, json_file},
};

const NAME: &str = "qwen3-vl";
const CASES: [&str; 6] = ["text", "square", "wide", "two", "large", "bare"];

/// How far a byte of a resized image may be from Pillow's, which rounds to bytes between the two directions; and one of an image
/// that keeps its size.
const RESIZED: f32 = 2.1 / 127.5;
const KEPT: f32 = 1e-5;

fn model() -> Qwen3Vl {
    let (raw, files) = (json_file(NAME, "config.json"), Files::Folder(folder(NAME)));
    Qwen3Vl::new(parts(&raw, &files, canonical)).unwrap()
}

fn number(value: &Value) -> u32 {
    u32::try_from(value.as_u64().unwrap()).unwrap()
}

/// As make.py's `picture`.
fn picture(spec: &Value) -> DynamicImage {
    let seed = number(&spec["number"]);
    let colour = |x: u32, y: u32, c: u32| {
        let value = x * (7 + seed) + y * (13 + 3 * c) + x * y * (seed + 1) + 50 * c;
        u8::try_from(value % 256).unwrap()
    };
    let pixel = |x, y| Rgb([0, 1, 2].map(|c| colour(x, y, c)));
    RgbImage::from_fn(number(&spec["width"]), number(&spec["height"]), pixel).into()
}

/// As make.py's `slope`.
fn slope(width: u32, height: u32) -> DynamicImage {
    let pixel = |x: u32, y: u32| {
        let levels =
            [x * 255 / (width - 1), y * 255 / (height - 1), (x + y) * 255 / (width + height - 2)];
        Rgb(levels.map(|level| u8::try_from(level).unwrap()))
    };
    RgbImage::from_fn(width, height, pixel).into()
}

fn pictures(case: &Value) -> Vec<DynamicImage> {
    case["pictures"].as_array().unwrap().iter().map(picture).collect()
}

/// Where the images of a prompt are.
fn areas(model: &Qwen3Vl, prompt: &[u32], pictures: &[DynamicImage]) -> Vec<Area> {
    let mut from = 0;
    let area = |picture: &DynamicImage| {
        let spec = model.vision().unwrap();
        let extent = spec.extent(picture.width(), picture.height(), 512).unwrap();
        let at = from + prompt[from..].iter().position(|token| *token == 3).unwrap();
        let area = Area { at, extent };
        from = area.end();
        area
    };
    pictures.iter().map(area).collect()
}

/// A text with images that the model has looked at.
fn seeing(model: &mut Qwen3Vl, case: &Value, number: u32) -> Text {
    let mut text = Text::new(&tokens(&case["prompt"]), number);
    let pictures = pictures(case);
    text.areas = areas(model, &text.prompt, &pictures);
    for picture in &pictures {
        let pixels = model.vision().unwrap().preprocess.apply(picture).unwrap();
        text.images.push(model.look(&pixels).unwrap());
    }
    text
}

fn check(text: &Text, case: &Value, what: &str) {
    for (found, expected) in text.logits[0].iter().zip(numbers(&case["first_logits"])) {
        assert!((found - expected).abs() < TOLERANCE, "{what}: {found} {expected}");
    }
    assert_eq!(text.said, tokens(&case["tokens"]), "{what}");
}

#[test]
fn it_says_what_the_reference_says() {
    let golden = json_file(NAME, "golden.json");
    let mut model = model();
    assert_eq!((model.family(), model.context()), ("qwen3_vl", 512));
    assert_eq!(model.vision().unwrap().tokens, ImageTokens::Squares(8));
    for name in CASES {
        let case = &golden["cases"][name];
        for chunk in [1000, 16, 7, 1] {
            let mut text = seeing(&mut model, case, 0);
            text.chunk = chunk;
            say(&mut model, &mut text, tokens(&case["tokens"]).len());
            check(&text, case, &format!("{name}, {chunk} at once"));
        }
    }
}

#[test]
fn neighbours_change_nothing() {
    let golden = json_file(NAME, "golden.json");
    let mut model = model();
    let mut alone = Vec::new();
    for name in CASES {
        let mut text = seeing(&mut model, &golden["cases"][name], 0);
        say(&mut model, &mut text, 24);
        alone.push(text.logits);
    }
    for chunk in [1000, 11] {
        let mut texts: Vec<Text> = (0..)
            .zip(CASES)
            .map(|(number, name)| seeing(&mut model, &golden["cases"][name], number))
            .collect();
        texts.iter_mut().for_each(|text| text.chunk = chunk);
        // One more joins at each step.
        for now in 1.. {
            let mut running: Vec<&mut Text> =
                texts.iter_mut().take(now).filter(|text| text.said.len() < 24).collect();
            if running.is_empty() {
                break;
            }
            step(&mut model, &mut running).unwrap();
        }
        for ((text, name), alone) in texts.iter().zip(CASES).zip(&alone) {
            check(text, &golden["cases"][name], name);
            assert!(text.logits == *alone, "{name}: other bits beside others");
        }
    }
}

#[test]
fn attention_of_other_devices_says_the_same() {
    let golden = json_file(NAME, "golden.json");
    for (flash, name) in CASES.into_iter().flat_map(|name| [(false, name), (true, name)]) {
        let mut model = model();
        model.decoder.calculate_as_other_devices_do(flash).unwrap();
        let case = &golden["cases"][name];
        let mut text = seeing(&mut model, case, 0);
        let mut other = seeing(&mut model, &golden["cases"]["two"], 1);
        text.chunk = 20;
        while text.said.len() < 24 {
            let mut texts = vec![&mut text];
            if other.said.len() < 24 {
                texts.push(&mut other);
            }
            step(&mut model, &mut texts).unwrap();
        }
        check(&text, case, name);
    }
}

#[test]
fn what_follows_an_image_can_be_read_without_it() {
    let golden = json_file(NAME, "golden.json");
    let mut model = model();
    let case = &golden["cases"]["large"];
    let mut first = seeing(&mut model, case, 0);
    say(&mut model, &mut first, 1);
    // Four of its blocks of 16 tokens: the image ends in the next one. And all of the image, as when a long text follows.
    let long = [&first.prompt[..], &[90; 30]].concat();
    for (shared, prompt) in [(4, first.prompt.clone()), (5, long)] {
        let mut alone = Text::new(&prompt, 1);
        (alone.images, alone.areas) = (first.images.clone(), first.areas.clone());
        say(&mut model, &mut alone, 8);
        let mut other = Text::new(&prompt, 2);
        (other.images, other.areas) = (first.images.clone(), first.areas.clone());
        other.blocks[..shared].copy_from_slice(&alone.blocks[..shared]);
        other.position = shared * 16;
        say(&mut model, &mut other, 8);
        assert_eq!((other.said, other.logits), (alone.said, alone.logits), "{shared}");
    }
}

#[test]
fn places_are_those_of_transformers() {
    let golden = json_file(NAME, "golden.json");
    let model = model();
    for name in CASES {
        let case = &golden["cases"][name];
        let areas = areas(&model, &tokens(&case["prompt"]), &pictures(case));
        let expected: Vec<[u32; 3]> = serde_json::from_value(case["places"].clone()).unwrap();
        let all = places(&areas, 0, expected.len());
        assert_eq!(all, expected, "{name}");
        for from in 0..all.len() {
            for to in from..all.len() {
                assert_eq!(places(&areas, from, to), all[from..to], "{name}: {from} to {to}");
            }
        }
    }
    // An image in one line; and what is said after it.
    let line = Area { at: 1, extent: Extent { rows: 1, columns: 3 } };
    let after: [[u32; 3]; 6] = [[0; 3], [1; 3], [1, 1, 2], [1, 1, 3], [4; 3], [5; 3]];
    assert_eq!(places(&[line], 0, 6), after);
    let square = Area { at: 1, extent: Extent { rows: 2, columns: 2 } };
    assert_eq!(places(&[square], 5, 8), [[3_u32; 3], [4; 3], [5; 3]]);
    assert_eq!(places(&[], 3, 5), [[3_u32; 3], [4; 3]]);
}

#[test]
fn pairs_turn_by_three_coordinates_in_turns() {
    let axes = |rope: Value, head: usize| {
        let rope = Rope::read_sections(&json!({"rope_parameters": rope}), head, 512, 1e4).unwrap();
        let letter = |axis: &Axis| ["t", "h", "w"][*axis as usize];
        rope.axes().unwrap().iter().map(letter).collect::<String>()
    };
    assert_eq!(axes(json!({"mrope_section": [4, 2, 2]}), 16), "thwthwtt");
    assert_eq!(axes(json!({"mrope_section": [1, 3, 4]}), 16), "thwthwth");
    let real = axes(json!({"mrope_section": [24, 20, 20], "mrope_interleaved": true}), 128);
    assert_eq!(real, format!("{}tttt", "thw".repeat(20)));
    assert_eq!(axes(json!({}), 128), real);
}

#[test]
fn images_are_prepared_as_transformers_does() {
    let golden = json_file(NAME, "golden.json");
    let model = model();
    let spec = model.vision().unwrap();
    let patches = |image: &DynamicImage| -> Vec<f32> {
        let pixels = spec.preprocess.apply(image).unwrap();
        model.patches(&pixels).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    };
    for name in CASES {
        let case = &golden["cases"][name];
        let Some(expected) = case.get("patches") else { continue };
        let found: Vec<f32> = pictures(case).iter().flat_map(&patches).collect();
        let expected = numbers(expected);
        assert_eq!(found.len().div_ceil(97), expected.len());
        for (found, expected) in found.iter().step_by(97).zip(expected) {
            assert!((found - expected).abs() < KEPT, "{name}: {found} {expected}");
        }
    }
    for case in golden["resized"].as_array().unwrap() {
        let (width, height) = (number(&case["width"]), number(&case["height"]));
        let extent = spec.extent(width, height, 512).unwrap();
        let grid = tokens(&case["grid"]);
        assert_eq!([extent.rows, extent.columns], [grid[1] as usize / 2, grid[2] as usize / 2]);
        let found = patches(&slope(width, height));
        for (found, expected) in found.iter().step_by(41).zip(numbers(&case["values"])) {
            assert!((found - expected).abs() < RESIZED, "{width} x {height}: {found} {expected}");
        }
    }
}

#[test]
fn images_that_no_prompt_can_hold_are_refused() {
    let model = model();
    let spec = model.vision().unwrap();
    assert_eq!(spec.extent(64, 64, 65).unwrap(), Extent { rows: 8, columns: 8 });
    let error = spec.extent(64, 64, 64).unwrap_err();
    assert!(error.to_string().contains("64 tokens"), "{error}");
    for (width, height) in [(0, 5), (1, 201)] {
        assert_eq!(spec.extent(width, height, 512).unwrap_err().error_type(), "bad_image");
    }
    assert!(spec.extent(1, 200, 512).is_ok());
}

#[test]
fn runs_that_do_not_fit_are_errors_and_no_panics() {
    let golden = json_file(NAME, "golden.json");
    let mut model = model();
    let text = seeing(&mut model, &golden["cases"]["two"], 0);
    let placed = text.placed(&text.prompt);
    let good = Run {
        sequence: 1,
        tokens: &text.prompt,
        position: 0,
        blocks: &text.blocks,
        adapter: None,
        images: &placed,
        areas: &text.areas,
        logits: true,
    };
    assert!(model.forward(&[good]).is_ok());
    let mut swapped = text.areas.clone();
    swapped.swap(0, 1);
    let mut empty = text.areas.clone();
    empty[1].extent.columns = 0;
    for bad in [
        Run { images: &placed[..1], ..good },
        Run { images: &[], ..good },
        Run { areas: &swapped, ..good },
        Run { areas: &empty, ..good },
    ] {
        assert_eq!(model.forward(&[bad]).unwrap_err().error_type(), "internal");
    }
    let odd = Tensor::zeros((3, 12, 8), DType::F32, &Device::Cpu).unwrap();
    assert!(model.look(&odd).is_err());
}

/// Loads the fixture with other values in its config.json: paths of keys, with dots between them.
fn build(changes: &Value, tensor: Option<&str>) -> Result<(), LoadError> {
    let mut raw = json_file(NAME, "config.json");
    for (path, value) in changes.as_object().unwrap() {
        let keys = path.split('.');
        let place = keys.fold(&mut raw, |place, key| &mut place[key]);
        *place = value.clone();
    }
    let files = Files::Folder(folder(NAME));
    let mut parts = parts(&raw, &files, canonical);
    if let Some(name) = tensor {
        let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        parts.tensors.insert(canonical(name), tensor);
    }
    (family(&raw).unwrap().build)(parts).map(drop)
}

#[test]
fn a_config_of_any_version_is_the_same_model() {
    let golden = json_file(NAME, "golden.json");
    let mut raw = json_file(NAME, "config.json");
    // As transformers 4 writes it.
    let text = raw["text_config"].as_object_mut().unwrap();
    text.remove("rope_parameters");
    text.insert("rope_theta".to_owned(), json!(50_000.0));
    let rope =
        json!({"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": true});
    text.insert("rope_scaling".to_owned(), rope);
    let vision = raw["vision_config"].as_object_mut().unwrap();
    vision.remove("rope_parameters");
    vision.insert("model_type".to_owned(), json!("qwen3_vl"));
    raw.as_object_mut().unwrap().remove("tie_word_embeddings");
    raw["torch_dtype"] = json!("float32");
    let files = Files::Folder(folder(NAME));
    let mut model = Qwen3Vl::new(parts(&raw, &files, canonical)).unwrap();
    let case = &golden["cases"]["wide"];
    let mut text = seeing(&mut model, case, 0);
    say(&mut model, &mut text, 24);
    check(&text, case, "an older config.json");

    for changes in [
        json!({}),
        json!({"architectures": null, "vision_config.hidden_act": null}),
        json!({"vision_config.rope_parameters": {"rope_type": "default"}}),
        json!({"text_config.sliding_window": null, "text_config.use_cache": false}),
    ] {
        let built = build(&changes, None);
        assert!(built.is_ok(), "{changes}: {built:?}");
    }
}

#[test]
fn what_would_be_misread_is_refused_by_its_name() {
    for (changes, named) in [
        (json!({"projector_hidden_act": "relu"}), "projector_hidden_act"),
        (json!({"image_token_id": -3}), "image_token_id"),
        (json!({"tie_word_embeddings": "yes"}), "tie_word_embeddings"),
        (json!({"tie_word_embeddings": false}), "lm_head"),
        (json!({"text_config": null}), "text_config"),
        (json!({"vision_config": 7}), "vision_config"),
        (json!({"text_config.model_type": "qwen2"}), "qwen2"),
        (json!({"text_config.logit_scale": 2.0}), "logit_scale"),
        (json!({"text_config.sliding_window": 8}), "sliding_window"),
        (json!({"text_config.rope_parameters.mrope_section": [4, 2]}), "mrope_section"),
        (json!({"text_config.rope_parameters.mrope_section": [4, 2, 3]}), "mrope_section"),
        (json!({"text_config.rope_parameters.mrope_section": [-4, 6, 6]}), "mrope_section"),
        (json!({"text_config.rope_parameters.mrope_interleaved": false}), "mrope_interleaved"),
        (json!({"text_config.rope_parameters.rope_type": "longrope"}), "longrope"),
        (json!({"text_config.rope_parameters.rope_theta": "5e4"}), "rope_theta"),
        (json!({"text_config.rope_parameters": "default"}), "rope_parameters"),
        (json!({"text_config.rms_norm_eps": true}), "rms_norm_eps"),
        (json!({"text_config.num_hidden_layers": 1}), "deepstack_visual_indexes"),
        (json!({"text_config.num_hidden_layers": 2}), "tensor language_model.model.layers.2."),
        (json!({"vision_config.model_type": "siglip_vision_model"}), "siglip_vision_model"),
        (json!({"vision_config.window_size": 112}), "window_size"),
        (json!({"vision_config.hidden_act": "relu"}), "relu"),
        (json!({"vision_config.depth": 5}), "visual.blocks.4"),
        (json!({"vision_config.depth": 3}), "visual.blocks.3"),
        (json!({"vision_config.num_heads": 3}), "vision_config"),
        (json!({"vision_config.num_heads": 16}), "vision_config"),
        (json!({"vision_config.in_channels": 1}), "vision_config"),
        (json!({"vision_config.hidden_size": 1_u64 << 60}), "vision_config"),
        (json!({"vision_config.patch_size": 1_u64 << 60}), "vision_config"),
        (json!({"vision_config.patch_size": [4, 4]}), "patch_size"),
        (json!({"vision_config.patch_size": 8}), "patch_size"),
        (json!({"vision_config.spatial_merge_size": 1}), "merge_size"),
        (json!({"vision_config.temporal_patch_size": 1}), "temporal_patch_size"),
        (json!({"vision_config.out_hidden_size": 32}), "out_hidden_size"),
        (json!({"vision_config.num_position_embeddings": 49}), "pos_embed"),
        (json!({"vision_config.deepstack_visual_indexes": [2, 0]}), "deepstack_visual_indexes"),
        (json!({"vision_config.deepstack_visual_indexes": [0, 4]}), "deepstack_visual_indexes"),
        (json!({"vision_config.deepstack_visual_indexes": [0]}), "deepstack_merger_list.1"),
        (json!({"vision_config.rope_parameters": {"rope_type": "yarn"}}), "rope_type"),
        (json!({"vision_config.rope_parameters": {"factor": 2.0}}), "factor"),
        (json!({"vision_config.rope_parameters": 7}), "rope_parameters"),
    ] {
        let error = build(&changes, None).expect_err(&changes.to_string()).to_string();
        assert!(error.contains(named), "{changes}: {error}");
    }
    for (tensor, named) in [
        ("model.visual.class_embedding", "visual.class_embedding"),
        ("model.language_model.layers.0.mlp.gate_up_proj.weight", "gate_up_proj"),
        ("model.language_model.layers.1.self_attn.q_proj.bias", "q_proj.bias"),
    ] {
        let extra = build(&json!({}), Some(tensor)).unwrap_err().to_string();
        assert!(extra.contains(named), "{extra}");
    }
}
