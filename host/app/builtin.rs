//! What ships inside the program: plugins, the demo model, the configuration that is used when there is none.

/// The configuration of a server that was given no file.
pub const CONFIG: &str = include_str!("../../examples/configs/default.toml");

/// Files of a model by name.
pub type Files = &'static [(&'static str, &'static [u8])];

macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../examples/demo-model/", $folder, "/", $name)))),+]
    };
}

/// The demo model: a LLaVA checkpoint. See `examples/demo-model`.
pub const DEMO: Files = files!("checkpoint":
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors",
);

/// The adapter that makes it answer in Korean.
pub const DEMO_KOREAN: Files =
    files!("ko-lora": "adapter_config.json", "adapter_model.safetensors");

macro_rules! plugins {
    ($($name:literal),+ $(,)?) => {
        const PLUGINS: &[(&str, &[u8])] =
            &[$(($name, include_bytes!(concat!("../../plugins/components/", $name, ".wasm")))),+];
    };
}

plugins!("alert", "guide", "json", "redact", "truncate");

/// A built-in component by its name.
pub fn plugin(name: &str) -> Option<&'static [u8]> {
    PLUGINS.iter().find(|(it, _)| *it == name).map(|(_, bytes)| *bytes)
}

pub fn plugin_names() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().map(|(name, _)| *name)
}
