//! Steps of the decoder that most families share: texts beside each other, blocks that are shared or used again, runs that do not
//! fit, and the operations of other devices.

use candle_core::{DType, Device, Tensor};
use proptest::{prelude::*, sample::Index};

use super::{MODELS, Text, adapted, golden, loaded, say, step};
use crate::{
    adapter::AdapterLoadError,
    checkpoint::{Files, Stored},
    memory::CacheSize,
    model::{
        AdapterInfo, Capacity, Model, Run,
        config::{DecoderConfig, Kind},
        decoder::{Decoder, Place},
        weights::Tensors,
    },
    tests::{folder, json_file},
};

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
fn attention_of_other_devices_says_the_same() {
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

        fn capacity(&self) -> Capacity {
            self.0.capacity()
        }

        fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, crate::EngineError> {
            self.0.forward(runs)
        }

        fn load_adapter(
            &mut self,
            name: &str,
            files: &Files,
        ) -> Result<AdapterInfo, AdapterLoadError> {
            self.0.load_adapter(name, files, &str::to_owned)
        }

        fn unload_adapter(&mut self, _: &str) {}
    }

    for (flash, name) in MODELS.into_iter().flat_map(|name| [(false, name), (true, name)]) {
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
        decoder.calculate_as_other_devices_do(flash).unwrap();
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
