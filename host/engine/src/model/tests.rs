//! Every family and every adapter against what the reference says, and what tests of models have in common.

mod adapters;
mod checkpoints;
mod gemma;
mod gguf;
mod halves;
mod llava;
mod qwen3_vl;
mod smollm2;
mod steps;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use super::{Area, Model, Parts, Placed, Run};
use crate::{
    checkpoint::{Files, Stored},
    load,
    memory::CacheSize,
    tests::{config, folder, json_file},
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
