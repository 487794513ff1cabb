//! LoRA adapters: beside each other and the base in one step, and those of other models.

use super::{Text, golden, loaded, step};
use crate::{
    adapter::{AdapterError, AdapterLoadError},
    checkpoint::Files,
    tests::folder,
};

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
