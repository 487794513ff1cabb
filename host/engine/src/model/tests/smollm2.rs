//! SmolLM2-135M-Instruct out of its GGUF file, against what transformers says: `tests/fixtures/smollm2`. Where the file is not
//! (`just model` fetches it), there is nothing to test, and the test says so.

use std::{
    io::{Write as _, stderr},
    path::Path,
};

use candle_core::Device;
use serde_json::Value;

use super::{Text, numbers, step, tokens};
use crate::{
    memory::CacheSize,
    model::{Gguf, Model},
};

/// What 16-bit activations may change: where the reference's two best are further apart than this, tokens are the same.
const NOISE: f32 = 1e-3;

struct Golden {
    text: String,
    prompt: Vec<u32>,
    answer: Vec<u32>,
    margins: Vec<f32>,
}

fn golden() -> Vec<Golden> {
    let text = include_str!("../../../../../tests/fixtures/smollm2/golden.json");
    let read = |it: &Value| Golden {
        text: it["text"].as_str().unwrap().to_owned(),
        prompt: tokens(&it["tokens"]),
        answer: tokens(&it["answer"]),
        margins: numbers(&it["margins"]),
    };
    serde_json::from_str::<Vec<Value>>(text).unwrap().iter().map(read).collect()
}

fn model(dequantize: bool) -> Option<Box<dyn Model>> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let path = models.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    if !path.exists() {
        let _ = writeln!(stderr(), "skipped, since {} is not there: just model", path.display());
        return None;
    }
    // The cache takes its memory as it is written to.
    let cache = CacheSize::Bytes(2 << 30);
    Some(Gguf::open(&path).unwrap().load(&Device::Cpu, cache, dequantize).unwrap())
}

/// Every token of every answer, after what the reference said before it, all prompts in one batch. Where another one is said, the
/// reference's margin has to be below `allowed`. Returns how many are others, and the largest of their margins.
fn check(model: &mut dyn Model, allowed: f32) -> (usize, f32) {
    let golden = golden();
    assert_eq!(golden.len(), 50);
    let mut texts: Vec<_> =
        golden.iter().zip(0..).map(|(it, number)| Text::new(&it.prompt, number)).collect();
    let (mut others, mut largest) = (0, 0f32);
    for at in 0..golden[0].answer.len() {
        step(model, &mut texts.iter_mut().collect::<Vec<_>>()).unwrap();
        for (text, golden) in texts.iter_mut().zip(&golden) {
            text.logits.clear();
            let said = text.said.last_mut().unwrap();
            let (expected, margin) = (golden.answer[at], golden.margins[at]);
            if *said != expected {
                let prompt = &golden.text;
                assert!(
                    margin < allowed,
                    "{prompt:?}, token {at}: {said} for {expected}, with a margin of {margin}"
                );
                let _ = writeln!(
                    stderr(),
                    "{prompt:?}, token {at}: another one, with a margin of {margin}"
                );
                (others, largest) = (others + 1, largest.max(margin));
                *said = expected;
            }
        }
    }
    (others, largest)
}

#[test]
fn in_floats_it_says_what_transformers_says() {
    let Some(mut model) = model(true) else { return };
    assert_eq!(check(model.as_mut(), 0.0), (0, 0.0));
}

#[test]
fn quantized_it_differs_only_where_rounding_may_decide() {
    let Some(mut model) = model(false) else { return };
    let (others, largest) = check(model.as_mut(), NOISE);
    assert!(others < 3, "{others} of 1200 tokens are others, margins up to {largest}");
}
