//! The demo model with something wrong with it, for what a good one never does.

use std::{fs, path::Path};

use candle_core::{Device, Tensor};
use serde_json::Value;
use tempfile::TempDir;

use super::repository;

/// A checkpoint in a folder of its own.
pub(crate) struct Model(TempDir);

impl Model {
    /// Never says that it is done: an answer goes on until its limit, at about a millisecond a token.
    pub(crate) fn endless() -> Self {
        let model = Self::copy();
        // The last of the vocabulary's 1024 tokens, a rare one.
        for (file, path) in [
            ("config.json", "/text_config/eos_token_id"),
            ("generation_config.json", "/eos_token_id"),
        ] {
            model.change(file, path, Value::from(1023));
        }
        model
    }

    /// Fails at each prompt with a `~` in it: the tokenizer gives it a number that the weights don't have.
    pub(crate) fn faulty() -> Self {
        let model = Self::copy();
        model.change("tokenizer.json", "/model/vocab/~0", Value::from(4000));
        model
    }

    /// Fails when it has to go on after this token, which prompts must not hold: what it computes of it are no numbers.
    pub(crate) fn fails_after(token: usize) -> Self {
        let model = Self::copy();
        let path = model.0.path().join("model.safetensors");
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let name = "language_model.model.embed_tokens.weight";
        let mut rows = tensors[name].to_vec2::<f32>().unwrap();
        rows[token].fill(f32::NAN);
        tensors.insert(name.to_owned(), Tensor::new(rows, &Device::Cpu).unwrap());
        candle_core::safetensors::save(&tensors, &path).unwrap();
        model
    }

    /// What the configuration's table `engine` has to say.
    pub(crate) fn lines(&self) -> String {
        format!("model = {:?}\nname = \"demo\"", self.0.path())
    }

    fn copy() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(repository("examples/demo-model/checkpoint")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        Self(folder)
    }

    /// Puts a value in the place of another one, which must be there.
    fn change(&self, file: &str, pointer: &str, value: Value) {
        let path: &Path = &self.0.path().join(file);
        let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        fs::write(path, json.to_string()).unwrap();
    }
}
