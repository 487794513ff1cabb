//! A model without weights: the logits after a text are a hash of all that the blocks hold of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::mpsc::{Receiver, Sender, channel},
};

use candle_core::{Device, Tensor};

use crate::{
    adapter::{AdapterError, AdapterLoadError},
    checkpoint::Files,
    error::EngineError,
    model::{AdapterInfo, Capacity, Model, Run},
};

const BLOCK_TOKENS: usize = 4;
const VOCABULARY: usize = 512;
/// Of a state.
const WIDTH: usize = 8;

/// What kind of model it is.
pub(super) struct Setting {
    /// Says these tokens over and over; without any, what the hash says.
    pub(super) says: Vec<u32>,
    pub(super) context: usize,
    pub(super) blocks: usize,
    /// What happens at the steps with these numbers, the first being 1.
    pub(super) fails: Vec<(usize, fn() -> EngineError)>,
    /// Each step waits for one of these; closed, none waits.
    pub(super) gate: Option<Receiver<()>>,
    /// No adapter can be loaded.
    pub(super) closed: bool,
    /// The end of a job ends the engine's thread.
    pub(super) broken: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            says: Vec::new(),
            context: 128,
            blocks: 512,
            fails: Vec::new(),
            gate: None,
            closed: false,
            broken: false,
        }
    }
}

impl Setting {
    pub(super) fn gated(self) -> (Self, Sender<()>) {
        let (gate, waits) = channel();
        (Self { gate: Some(waits), ..self }, gate)
    }
}

pub(super) struct Echo {
    setting: Setting,
    cache: Vec<u64>,
    /// How long each sequence's prompt is.
    prompts: HashMap<u64, usize>,
    adapters: BTreeSet<String>,
    steps: usize,
}

impl Echo {
    pub(super) fn new(setting: Setting) -> Self {
        let adapters = ["one", "two"].map(str::to_owned).into();
        let cache = vec![0; setting.blocks * BLOCK_TOKENS];
        Self { setting, cache, prompts: HashMap::new(), adapters, steps: 0 }
    }

    /// What every step begins with.
    fn begin(&mut self, runs: &[Run<'_>]) -> Result<(), EngineError> {
        self.steps += 1;
        if let Some(gate) = &self.setting.gate {
            let _ = gate.recv();
        }
        let now = self.steps;
        let Some((_, fail)) = self.setting.fails.iter().find(|(step, _)| *step == now) else {
            return Ok(());
        };
        // What a kernel leaves that was stopped half way.
        for run in runs {
            for block in run.blocks {
                self.cache[*block as usize * BLOCK_TOKENS] = 666;
            }
        }
        Err(fail())
    }

    fn read(&mut self, run: &Run<'_>) -> u64 {
        let place =
            |at: usize| run.blocks[at / BLOCK_TOKENS] as usize * BLOCK_TOKENS + at % BLOCK_TOKENS;
        let adapter = run.adapter.map_or(0, |name| {
            assert!(self.adapters.contains(name), "{name} is not loaded");
            name.bytes().fold(1, |sum, byte| sum * 31 + u64::from(byte))
        });
        for (at, token) in (run.position..).zip(run.tokens) {
            self.cache[place(at)] = mix(mix(u64::from(*token), adapter), at as u64);
        }
        let end = run.position + run.tokens.len();
        (0..end).fold(7, |hash, at| mix(hash, self.cache[place(at)]))
    }

    fn row(&mut self, run: &Run<'_>, hash: u64) -> Vec<f32> {
        let end = run.position + run.tokens.len();
        let prompt = *self.prompts.entry(run.sequence).or_insert(end);
        let mut row: Vec<f32> =
            (0..VOCABULARY as u64).map(|token| (mix(hash, token) % 1000) as f32 / 500.0).collect();
        // Printable tokens of the fixture's vocabulary, and none that ends the text.
        let token = match self.setting.says.as_slice() {
            [] => 100 + hash as usize % 300,
            says => says[(end - prompt) % says.len()] as usize,
        };
        row[token] = 9.0;
        row
    }
}

fn mix(a: u64, b: u64) -> u64 {
    let x = (a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x1234_5678_9ABC_DEF1);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 3
}

impl Model for Echo {
    fn family(&self) -> &'static str {
        "echo"
    }

    fn context(&self) -> usize {
        self.setting.context
    }

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }

    fn capacity(&self) -> Capacity {
        Capacity { block_tokens: BLOCK_TOKENS, blocks: self.setting.blocks, sequences: 64 }
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        self.begin(runs)?;
        let mut rows = Vec::new();
        for run in runs {
            let hash = self.read(run);
            if run.logits {
                rows.extend(self.row(run, hash));
            }
        }
        let count = rows.len() / VOCABULARY;
        Ok(Tensor::from_vec(rows, (count, VOCABULARY), &Device::Cpu)?)
    }

    fn width(&self) -> usize {
        WIDTH
    }

    fn embed(&mut self, runs: &[Run<'_>]) -> Result<Tensor, EngineError> {
        self.begin(runs)?;
        let mut rows = Vec::new();
        for run in runs {
            let hash = self.read(run);
            if run.logits {
                rows.extend((0..WIDTH as u64).map(|at| (mix(hash, at) % 1000) as f32 - 499.5));
            }
        }
        let count = rows.len() / WIDTH;
        Ok(Tensor::from_vec(rows, (count, WIDTH), &Device::Cpu)?)
    }

    fn forget(&mut self, sequence: u64) {
        assert!(!self.setting.broken, "a bug in the engine");
        self.prompts.remove(&sequence);
    }

    fn load_adapter(&mut self, name: &str, _: &Files) -> Result<AdapterInfo, AdapterLoadError> {
        if self.setting.closed {
            return Err(AdapterError::Empty.into());
        }
        assert!(self.adapters.insert(name.to_owned()), "{name} was loaded twice");
        Ok(AdapterInfo { modules: 3 })
    }

    fn unload_adapter(&mut self, name: &str) {
        assert!(self.adapters.remove(name), "{name} was not loaded");
    }
}
