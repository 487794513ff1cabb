mod halves;
mod qwen3_vl;
mod smollm2;

use std::{collections::HashMap, fs::File, slice};

use ::image::{DynamicImage, Rgb, RgbImage};
use candle_core::{
    DType, Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value as Meta},
    },
};
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{
    Area, Capacity, Gguf, ImageTokens, Model, Parts, Placed, Run,
    config::{DecoderConfig, Kind},
    decoder::{Decoder, Place},
    family,
    llava::canonical,
    weights::Tensors,
};
use crate::{
    adapter::{AdapterError, AdapterLoadError},
    checkpoint::{Files, Stored},
    error::LoadError,
    image::Preprocess,
    load,
    memory::CacheSize,
    tests::{config, folder, json_file},
    tokenizer::tests::gguf_metadata,
};

/// How far logits may be from the reference's. The margins between the two best in the golden files are ten times larger.
const TOLERANCE: f32 = 1e-4;

static MODELS: [&str; 5] = ["llama", "smollm2", "mistral", "qwen2", "qwen3"];

/// Models that see, and the images of each of their golden cases. The first comes again, after the others.
static SEEING: [(&str, &[(&str, &[&str])]); 2] = [
    ("llava", &[("a", &["pixels"]), ("b", &["pixels2"]), ("a", &["pixels"])]),
    (
        "llava-siglip",
        &[
            ("a", &["pixels"]),
            ("b", &["pixels2"]),
            ("ab", &["pixels", "pixels2"]),
            ("none", &[]),
            ("a", &["pixels"]),
        ],
    ),
];

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    let token = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    value.as_array().unwrap().iter().map(token).collect()
}

/// A square image.
fn pixels(value: &Value) -> Tensor {
    let numbers = numbers(value);
    let side = (numbers.len() / 3).isqrt();
    Tensor::from_vec(numbers, (3, side, side), &Device::Cpu).unwrap()
}

/// A text while it is being made.
struct Text {
    prompt: Vec<u32>,
    said: Vec<u32>,
    adapter: Option<String>,
    /// Features, one tensor for each image.
    images: Vec<Tensor>,
    /// Where they are, for families that ask.
    areas: Vec<Area>,
    blocks: Vec<u32>,
    position: usize,
    /// How many tokens of the prompt a step reads.
    chunk: usize,
    /// All logits so far.
    logits: Vec<Vec<f32>>,
}

impl Text {
    /// With blocks of its own: those from `number * 32` on.
    fn new(prompt: &[u32], number: u32) -> Self {
        Self {
            prompt: prompt.to_vec(),
            said: Vec::new(),
            adapter: None,
            images: Vec::new(),
            areas: Vec::new(),
            blocks: (0..32).map(|block| number * 32 + block).rev().collect(),
            position: 0,
            chunk: 1000,
            logits: Vec::new(),
        }
    }

    /// The new tokens of its next step, and whether the prompt is read with them.
    fn next(&self) -> (Vec<u32>, bool) {
        let rest = &self.prompt[self.position.min(self.prompt.len())..];
        if rest.is_empty() {
            return (vec![*self.said.last().unwrap()], true);
        }
        let size = self.chunk.min(rest.len());
        (rest[..size].to_vec(), size == rest.len())
    }

    /// Where features stand among the new tokens.
    fn placed(&self, new: &[u32]) -> Vec<Placed<'_>> {
        let (start, end) = (self.position, self.position + new.len());
        let mut first = 0;
        let mut placed = Vec::new();
        for features in &self.images {
            let size = features.dim(0).unwrap();
            first += self.prompt[first..].iter().position(|token| *token == 3).unwrap();
            let (from, to) = (first.max(start), (first + size).min(end));
            if from < to {
                placed.push(Placed {
                    at: from - start,
                    features,
                    rows: (from - first, to - first),
                });
            }
            first += size;
        }
        placed
    }
}

/// One step of several texts.
fn step(model: &mut dyn Model, texts: &mut [&mut Text]) -> Result<(), crate::EngineError> {
    let next: Vec<_> = texts.iter().map(|text| text.next()).collect();
    let placed: Vec<_> =
        texts.iter().zip(&next).map(|(text, (tokens, _))| text.placed(tokens)).collect();
    let runs: Vec<_> = texts
        .iter()
        .zip(&next)
        .zip(&placed)
        .map(|((text, (tokens, logits)), images)| Run {
            sequence: u64::from(text.blocks[0]),
            tokens,
            position: text.position,
            blocks: &text.blocks,
            adapter: text.adapter.as_deref(),
            images,
            areas: &text.areas,
            logits: *logits,
        })
        .collect();
    let logits = model.forward(&runs)?;
    let mut rows = logits.to_vec2::<f32>().unwrap().into_iter();
    for (text, (tokens, asks)) in texts.iter_mut().zip(next) {
        text.position += tokens.len();
        if asks {
            let row = rows.next().unwrap();
            let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
            text.said.push(best as u32);
            text.logits.push(row);
        }
    }
    assert!(rows.next().is_none(), "a row that nobody asked for");
    Ok(())
}

fn say(model: &mut dyn Model, text: &mut Text, count: usize) {
    while text.said.len() < count {
        step(model, &mut [&mut *text]).unwrap();
    }
}

/// What the reference says of one prompt.
struct Golden {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    /// Tokens and logits after the prompt, the likeliest first.
    top: Vec<(u32, f32)>,
}

fn golden(model: &str, part: &str) -> Vec<Golden> {
    let file = json_file(model, "golden.json");
    let case = |case: &Value| {
        let pairs = case["top"].as_array().unwrap().iter();
        let top = pairs.map(|pair| (tokens(&json!([pair[0]]))[0], numbers(&json!([pair[1]]))[0]));
        Golden {
            prompt: tokens(&case["prompt"]),
            tokens: tokens(&case["tokens"]),
            top: top.collect(),
        }
    };
    file[part].as_array().unwrap().iter().map(case).collect()
}

impl Golden {
    /// Tokens have to be those of the reference, and the first logits near its.
    fn check(&self, text: &Text, case: &str) {
        assert_eq!(text.said, self.tokens, "{case}");
        for (token, expected) in &self.top {
            let found = text.logits[0][*token as usize];
            assert!((found - expected).abs() < TOLERANCE, "{case}: {found} {expected}");
        }
    }
}

/// The parts of a golden file that are said with an adapter; `{model}-{part}` is its folder, and its name.
fn adapted(model: &str) -> Vec<&'static str> {
    let exists = |part: &&str| folder(&format!("{model}-{part}")).exists();
    ["lora", "lora-b"].into_iter().filter(exists).collect()
}

/// The model with its adapters, where it has any.
fn loaded(model: &str) -> Box<dyn Model> {
    let names: Vec<_> = adapted(model).iter().map(|part| format!("{model}-{part}")).collect();
    let adapters: Vec<_> = names.iter().map(String::as_str).collect();
    load::load(&config(model, &adapters), &Device::Cpu).unwrap().model
}

#[test]
fn every_family_and_adapter_says_what_the_reference_says() {
    for name in MODELS {
        let mut model = loaded(name);
        assert_eq!(model.family(), if name == "smollm2" { "llama" } else { name });
        for part in ["base"].into_iter().chain(adapted(name)) {
            for (number, golden) in golden(name, part).iter().enumerate() {
                for chunk in [1000, 7, 1] {
                    let mut text = Text::new(&golden.prompt, 0);
                    text.chunk = chunk;
                    text.adapter = (part != "base").then(|| format!("{name}-{part}"));
                    say(model.as_mut(), &mut text, golden.tokens.len());
                    golden.check(&text, &format!("{name} {part} {number}, {chunk} at once"));
                }
            }
        }
    }
}

#[test]
fn two_adapters_and_the_base_say_in_one_step_what_each_says_alone() {
    let mut model = loaded("llama");
    let parts = ["lora-b", "base", "lora", "lora-b"];
    let mut texts: Vec<_> = parts
        .iter()
        .enumerate()
        .map(|(number, part)| {
            let golden = golden("llama", part).swap_remove(number);
            let mut text = Text::new(&golden.prompt, number as u32);
            text.adapter = (*part != "base").then(|| format!("llama-{part}"));
            (golden, text)
        })
        .collect();
    for _ in 0..texts[0].0.tokens.len() {
        let mut running: Vec<_> = texts.iter_mut().map(|(_, text)| text).collect();
        step(model.as_mut(), &mut running).unwrap();
    }
    for (part, (golden, text)) in parts.iter().zip(&texts) {
        golden.check(text, part);
    }
}

/// A text that joins others.
#[derive(Clone, Debug)]
struct Joining {
    case: Index,
    /// Which part of the golden file it is of.
    part: Index,
    /// In which step it begins.
    at: usize,
    chunk: usize,
}

fn joining() -> impl Strategy<Value = Joining> {
    (any::<Index>(), any::<Index>(), 0usize..30, 1usize..100)
        .prop_map(|(case, part, at, chunk)| Joining { case, part, at, chunk })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Texts come and go, prompts are read in pieces of any size, adapters are mixed: what a text says has the same bits as
    /// alone and in one piece, and its tokens are the reference's.
    #[test]
    fn neighbours_change_nothing(
        name in prop::sample::select(&MODELS[..]),
        mix in prop::collection::vec(joining(), 1..9),
    ) {
        let mut model = loaded(name);
        let parts: Vec<_> = ["base"]
            .into_iter()
            .chain(adapted(name))
            .map(|part| (part, golden(name, part)))
            .collect();
        let mut texts = Vec::new();
        for (number, joining) in mix.iter().enumerate() {
            let (part, cases) = joining.part.get(&parts);
            let golden = joining.case.get(cases);
            let mut text = Text::new(&golden.prompt, number as u32);
            text.chunk = joining.chunk;
            text.adapter = (*part != "base").then(|| format!("{name}-{part}"));
            texts.push((joining.at, golden, text));
        }
        for now in 0.. {
            let mut running: Vec<&mut Text> = texts
                .iter_mut()
                .filter(|(at, golden, text)| *at <= now && text.said.len() < golden.tokens.len())
                .map(|(_, _, text)| text)
                .collect();
            if !running.is_empty() {
                step(model.as_mut(), &mut running).unwrap();
            } else if now >= 30 {
                break;
            }
        }
        for (_, golden, text) in &texts {
            golden.check(text, name);
            let mut alone = Text::new(&golden.prompt, 0);
            alone.adapter.clone_from(&text.adapter);
            say(model.as_mut(), &mut alone, golden.tokens.len());
            prop_assert!(alone.logits == text.logits, "{}: other bits beside others", name);
        }
    }
}

#[test]
fn a_shared_prefix_is_not_read_twice() {
    for name in MODELS {
        let mut model = loaded(name);
        let golden = golden(name, "base");
        let long = golden.iter().max_by_key(|golden| golden.prompt.len()).unwrap();
        let mut first = Text::new(&long.prompt, 0);
        say(model.as_mut(), &mut first, 1);
        // Five of its blocks of 16 tokens, and then something else.
        let mut other = Text::new(&[&long.prompt[..80], &[90, 91, 92]].concat(), 1);
        let mut alone = Text::new(&other.prompt, 2);
        other.blocks[..5].copy_from_slice(&first.blocks[..5]);
        other.position = 80;
        for text in [&mut other, &mut alone] {
            say(model.as_mut(), text, 8);
        }
        assert_eq!(other.said, alone.said, "{name}");
        assert_eq!(other.logits, alone.logits, "{name}");
        // The one whose blocks were shared goes on as if nobody had looked.
        say(model.as_mut(), &mut first, long.tokens.len());
        long.check(&first, name);
    }
}

#[test]
fn blocks_of_a_prompt_that_was_given_up_can_be_used_again() {
    let mut model = loaded("mistral");
    for golden in golden("mistral", "base") {
        let mut given_up = Text::new(&[7; 200], 0);
        given_up.chunk = 150;
        step(model.as_mut(), &mut [&mut given_up]).unwrap();
        assert!(given_up.said.is_empty());
        let mut text = Text::new(&golden.prompt, 0);
        say(model.as_mut(), &mut text, golden.tokens.len());
        golden.check(&text, "after another");
    }
}

#[test]
fn runs_that_do_not_fit_are_errors_and_no_panics() {
    let mut model = loaded("llama");
    assert_eq!(model.context(), 512);
    let capacity = model.capacity();
    let blocks: Vec<u32> = (0..33).collect();
    let far = [u32::try_from(capacity.blocks).unwrap()];
    let good = Run {
        sequence: 1,
        tokens: &[7],
        position: 0,
        blocks: &blocks,
        adapter: None,
        images: &[],
        areas: &[],
        logits: true,
    };
    let long = [7; 513];
    for (bad, why) in [
        (Run { tokens: &[], ..good }, "without tokens"),
        (Run { tokens: &long, ..good }, "context is full"),
        (Run { position: 512, ..good }, "context is full"),
        (Run { blocks: &[], ..good }, "too few blocks"),
        (Run { position: 16, blocks: &[1], ..good }, "too few blocks"),
        (Run { blocks: &far, ..good }, "does not have"),
        (Run { adapter: Some("none"), ..good }, "no adapter none"),
        (Run { tokens: &[512], ..good }, ""),
    ] {
        let error = model.forward(&[good, bad]).unwrap_err();
        assert_eq!(error.error_type(), "internal");
        assert!(error.to_string().contains(why), "{error}: {why}");
    }
    assert!(model.forward(&[]).is_err());
    let silent = Run { logits: false, ..good };
    assert_eq!(model.forward(&[silent]).unwrap().dims(), [0, 512]);
    model.unload_adapter("llama-lora");
    assert!(model.forward(&[Run { adapter: Some("llama-lora"), ..good }]).is_err());
}

/// The way of calculating that other devices than a CPU take, on a CPU.
#[test]
fn candles_own_operations_say_the_same() {
    struct Plain(Decoder);

    impl Model for Plain {
        fn family(&self) -> &'static str {
            "plain"
        }

        fn context(&self) -> usize {
            self.0.context()
        }

        fn vocabulary(&self) -> usize {
            self.0.vocabulary()
        }

        fn capacity(&self) -> super::Capacity {
            self.0.capacity()
        }

        fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, crate::EngineError> {
            self.0.forward(runs)
        }

        fn load_adapter(
            &mut self,
            name: &str,
            files: &Files,
        ) -> Result<super::AdapterInfo, AdapterLoadError> {
            self.0.load_adapter(name, files, &str::to_owned)
        }

        fn unload_adapter(&mut self, _: &str) {}
    }

    for name in MODELS {
        let raw = json_file(name, "config.json");
        let kind = Kind::of(raw["model_type"].as_str().unwrap()).unwrap();
        let config = DecoderConfig::read(kind, &raw).unwrap();
        let tensors = Files::Folder(folder(name))
            .tensors("model", &Device::Cpu, Stored::As(DType::F32))
            .unwrap();
        let place =
            Place { device: &Device::Cpu, dtype: DType::F32, cache: CacheSize::Bytes(1 << 24) };
        let mut decoder =
            Decoder::new(config, &mut Tensors::new(tensors, DType::F32), "", place).unwrap();
        decoder.calculate_as_other_devices_do().unwrap();
        let mut model = Plain(decoder);
        for golden in golden(name, "base") {
            let mut text = Text::new(&golden.prompt, 0);
            text.chunk = 20;
            let mut other = Text::new(&golden.prompt, 1);
            while text.said.len() < golden.tokens.len() {
                let mut texts = vec![&mut text];
                if other.said.len() < golden.tokens.len() {
                    texts.push(&mut other);
                }
                step(&mut model, &mut texts).unwrap();
            }
            golden.check(&text, name);
            golden.check(&other, name);
        }
    }
}

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

fn parts<'a>(config: &'a Value, files: &'a Files, rename: impl Fn(&str) -> String) -> Parts<'a> {
    let tensors = files
        .tensors("model", &Device::Cpu, Stored::As(DType::F32))
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (rename(&name), tensor))
        .collect();
    let (device, dtype, cache) = (&Device::Cpu, DType::F32, CacheSize::Bytes(1 << 24));
    Parts { config, files, tensors, device, dtype, cache, image_tokens: None }
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

#[test]
fn adapters_of_other_models_are_refused() {
    let mut model = loaded("llama");
    let other = Files::Folder(folder("qwen3-lora"));
    let error = model.load_adapter("other", &other).unwrap_err();
    assert!(matches!(error, AdapterLoadError::Adapter(AdapterError::Shape { .. })), "{error}");
    let mut model = loaded("llava");
    let error = model.load_adapter("other", &Files::Folder(folder("llama-lora"))).unwrap_err();
    assert!(matches!(error, AdapterLoadError::Adapter(AdapterError::UnknownTarget(_))), "{error}");
}

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
    let mut parts = parts(&raw, &files, str::to_owned);
    let other = (&parts.tensors["model.embed_tokens.weight"] * 2.0).unwrap();
    parts.tensors.insert("lm_head.weight".to_owned(), other);
    let error = (family(&raw).unwrap().build)(parts).err().unwrap().to_string();
    assert!(error.contains("tie_word_embeddings"), "{error}");
}

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
