//! Weights of 16 bits on a CPU: calculated with as they are, with the results of `f32`.

use candle_core::{DType, Tensor};

use super::{MODELS, SEEING, Text, folder, json_file, parts, pixels, say, tokens};
use crate::{
    checkpoint::Files,
    model::{Model, family},
};

/// A model whose weights were changed.
fn model(name: &str, stored: impl Fn(&Tensor) -> Tensor) -> Box<dyn Model> {
    let config = json_file(name, "config.json");
    let files = Files::Folder(folder(name));
    let family = family(&config).unwrap();
    let mut parts = parts(&config, &files, family.canonical);
    for tensor in parts.tensors.values_mut() {
        *tensor = stored(tensor);
    }
    (family.build)(parts).unwrap()
}

/// All logits of an answer.
fn logits(name: &str, stored: impl Fn(&Tensor) -> Tensor) -> Vec<Vec<f32>> {
    let mut model = model(name, stored);
    let mut text = Text::new(&[5, 9, 4, 31, 17, 8, 60], 0);
    say(model.as_mut(), &mut text, 6);
    text.logits
}

#[test]
fn weights_of_16_bits_give_the_logits_of_the_same_weights_in_f32() {
    for name in MODELS {
        for half in [DType::BF16, DType::F16] {
            let rounded = |it: &Tensor| it.to_dtype(half).unwrap();
            let widened = |it: &Tensor| rounded(it).to_dtype(DType::F32).unwrap();
            assert_eq!(logits(name, rounded), logits(name, widened), "{name} {half:?}");
        }
        let unchanged = logits(name, Tensor::clone);
        let rounded = logits(name, |it: &Tensor| it.to_dtype(DType::BF16).unwrap());
        assert_ne!(rounded, unchanged, "{name}: nothing was rounded");
    }
}

#[test]
fn towers_of_16_bits_see_what_towers_in_f32_see() {
    for (name, _) in SEEING {
        let golden = json_file(name, "golden.json");
        let image = pixels(&golden["pixels"]);
        let logits = |stored: &dyn Fn(&Tensor) -> Tensor| {
            let mut model = model(name, stored);
            let mut text = Text::new(&tokens(&golden["a"]["prompt"]), 0);
            text.images = vec![model.look(&image).unwrap()];
            say(model.as_mut(), &mut text, 6);
            text.logits
        };
        let rounded = |it: &Tensor| it.to_dtype(DType::BF16).unwrap();
        let widened = |it: &Tensor| rounded(it).to_dtype(DType::F32).unwrap();
        assert_eq!(logits(&rounded), logits(&widened), "{name}");
    }
}
