//! How fast does the decoder read and write, against candle's own Llama on the same weights and threads, and how does it grow with
//! the number of sequences?
//!
//! `CANDLE_NUM_THREADS=1 RAYON_NUM_THREADS=1 cargo bench --bench decode`; `-- --smoke` for one quick turn on a tiny model. The
//! model has the shape of SmolLM2-135M and weights out of a counter; with the same weights in `bf16` it is held against itself.
//! Where `models/SmolLM2-135M-Instruct.Q4_1.gguf` is, that is measured as well, its weights quantized in both.

#[path = "support/smoke.rs"]
mod smoke;

use std::{collections::HashMap, fs::File, path::Path, time::Instant};

use candle_core::{D, DType, Device, Tensor, quantized::gguf_file::Content};
use candle_nn::VarBuilder;
use candle_transformers::models::{
    llama::{Cache, Config, Llama, LlamaEosToks},
    quantized_llama::ModelWeights,
};
use engine::measure::{BareModel, BareRun};
use serde_json::{Value, json};

const GGUF: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";

/// How much is done in one turn.
#[derive(Clone, Copy)]
struct Work {
    rounds: usize,
    prompt: usize,
    tokens: usize,
}

fn config(smoke: bool) -> Value {
    let (hidden, inner, layers, vocabulary) =
        if smoke { (72, 96, 2, 512) } else { (576, 1536, 30, 49_152) };
    json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": 9, "num_key_value_heads": 3,
        "vocab_size": vocabulary, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
        "rope_theta": 100_000.0, "tie_word_embeddings": true,
    })
}

fn size(config: &Value, key: &str) -> usize {
    config[key].as_u64().and_then(|it| usize::try_from(it).ok()).unwrap_or_default()
}

fn tensors(config: &Value) -> candle_core::Result<HashMap<String, Tensor>> {
    let (hidden, inner) = (size(config, "hidden_size"), size(config, "intermediate_size"));
    let mut state = 1u32;
    let mut made = HashMap::new();
    let mut make = |name: String, shape: &[usize], scale: f32| {
        let count: usize = shape.iter().product();
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..count).map(|_| next() * scale).collect();
        // As `bf16` has them, so that both types are the same weights.
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(DType::BF16)?;
        made.insert(name, tensor.to_dtype(DType::F32)?);
        candle_core::Result::Ok(())
    };
    make("model.embed_tokens.weight".into(), &[size(config, "vocab_size"), hidden], 0.05)?;
    make("model.norm.weight".into(), &[hidden], 1.0)?;
    for layer in 0..size(config, "num_hidden_layers") {
        for (name, rows, columns) in [
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", hidden / 3, hidden),
            ("self_attn.v_proj", hidden / 3, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ] {
            make(format!("model.layers.{layer}.{name}.weight"), &[rows, columns], 0.05)?;
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            make(format!("model.layers.{layer}.{name}.weight"), &[hidden], 1.0)?;
        }
    }
    Ok(made)
}

/// The same numbers with 16 bits each.
fn halves(tensors: &HashMap<String, Tensor>) -> candle_core::Result<HashMap<String, Tensor>> {
    tensors.iter().map(|(name, it)| Ok((name.clone(), it.to_dtype(DType::BF16)?))).collect()
}

fn candles(
    config: &Value,
    tensors: HashMap<String, Tensor>,
) -> candle_core::Result<(Llama, Config)> {
    let sizes = Config {
        hidden_size: size(config, "hidden_size"),
        intermediate_size: size(config, "intermediate_size"),
        vocab_size: size(config, "vocab_size"),
        num_hidden_layers: size(config, "num_hidden_layers"),
        num_attention_heads: 9,
        num_key_value_heads: 3,
        use_flash_attn: false,
        rms_norm_eps: 1e-5,
        rope_theta: 100_000.0,
        bos_token_id: None,
        eos_token_id: None::<LlamaEosToks>,
        rope_scaling: None,
        max_position_embeddings: 1024,
        tie_word_embeddings: true,
    };
    let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    Ok((Llama::load(vb, &sizes)?, sizes))
}

/// The likeliest token of each row.
fn likeliest(logits: &Tensor) -> candle_core::Result<Vec<u32>> {
    logits.argmax(D::Minus1)?.flatten_all()?.to_vec1()
}

fn prompt(length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| 4 + i * 37 % 500).collect()
}

/// Seconds for a prompt and for the tokens after it.
fn one(work: Work, mut step: impl FnMut(usize, &[u32]) -> u32) -> (f64, f64, Vec<u32>) {
    let start = Instant::now();
    let mut said = vec![step(0, &prompt(work.prompt))];
    let prefill = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for at in 0..work.tokens {
        let token = said[at];
        said.push(step(work.prompt + at, &[token]));
    }
    (prefill, start.elapsed().as_secs_f64(), said)
}

fn ours(model: &mut BareModel, work: Work) -> (f64, f64, Vec<u32>) {
    one(work, |position, tokens| {
        let run = BareRun { place: 0, position, tokens };
        let logits = model.step(&[run]).unwrap_or_else(|error| panic!("{error}"));
        likeliest(&logits).unwrap_or_else(|error| panic!("{error}"))[0]
    })
}

/// Tokens a second with so many sequences of different lengths at once.
fn many(model: &mut BareModel, sequences: usize, work: Work) -> f64 {
    let mut texts: Vec<Vec<u32>> = (0..sequences).map(|i| prompt(16 + i * 3)).collect();
    let mut step = |texts: &mut Vec<Vec<u32>>, from: &[usize]| {
        let runs: Vec<_> = texts
            .iter()
            .zip(from)
            .enumerate()
            .map(|(place, (text, from))| BareRun {
                place: place as u32,
                position: *from,
                tokens: &text[*from..],
            })
            .collect();
        let logits = model.step(&runs).unwrap_or_else(|error| panic!("{error}"));
        let tokens = likeliest(&logits).unwrap_or_else(|error| panic!("{error}"));
        texts.iter_mut().zip(tokens).for_each(|(text, token)| text.push(token));
    };
    step(&mut texts, &vec![0; sequences]);
    let start = Instant::now();
    for _ in 0..work.tokens {
        let from: Vec<_> = texts.iter().map(|text| text.len() - 1).collect();
        step(&mut texts, &from);
    }
    (sequences * work.tokens) as f64 / start.elapsed().as_secs_f64()
}

#[expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]
fn compare(
    (name, theirs_is): (&str, &str),
    work: Work,
    mut ours: impl FnMut() -> (f64, f64, Vec<u32>),
    mut theirs: impl FnMut() -> (f64, f64, Vec<u32>),
) {
    let mut best = [f64::INFINITY; 4];
    let mut same = true;
    for _ in 0..work.rounds {
        let (a, b) = (ours(), theirs());
        same &= a.2 == b.2;
        for (best, seconds) in best.iter_mut().zip([a.0, b.0, a.1, b.1]) {
            *best = best.min(seconds);
        }
    }
    let [prefill, their_prefill, decode, their_decode] = best;
    let rate = |tokens: usize, seconds: f64| tokens as f64 / seconds;
    for (what, tokens, a, b) in [
        ("prefill", work.prompt, prefill, their_prefill),
        ("decode", work.tokens, decode, their_decode),
    ] {
        println!(
            "{name} {what}: {:.1} tokens/s against {theirs_is} {:.1}",
            rate(tokens, a),
            rate(tokens, b)
        );
        println!("ratio {name}-{what} {:.2} goal >= 1.0", b / a);
    }
    println!("{name}: the same {} tokens: {same}", work.tokens + 1);
}

#[expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]
fn main() -> candle_core::Result<()> {
    let smoke = smoke::is_smoke();
    let work = if smoke {
        Work { rounds: 1, prompt: 20, tokens: 4 }
    } else {
        Work { rounds: 3, prompt: 256, tokens: 24 }
    };
    println!("{} threads", candle_core::utils::get_num_threads());
    let config = config(smoke);
    let tensors = tensors(&config)?;
    let (llama, sizes) = candles(&config, tensors.clone())?;
    let halves = halves(&tensors)?;
    let mut model =
        BareModel::from_tensors(&config, tensors).unwrap_or_else(|error| panic!("{error}"));

    compare(
        ("f32", "candle's"),
        work,
        || ours(&mut model, work),
        || {
            let mut cache = Cache::new(true, DType::F32, &sizes, &Device::Cpu)
                .unwrap_or_else(|error| panic!("{error}"));
            one(work, |position, tokens| {
                let mut forward = || {
                    let ids = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
                    likeliest(&llama.forward(&ids, position, &mut cache)?)
                };
                forward().unwrap_or_else(|error| panic!("{error}"))[0]
            })
        },
    );
    drop(llama);

    let mut half =
        BareModel::from_tensors(&config, halves).unwrap_or_else(|error| panic!("{error}"));
    compare(("bf16", "f32's"), work, || ours(&mut half, work), || ours(&mut model, work));
    drop(half);

    let mut rates = HashMap::new();
    for _ in 0..work.rounds {
        for sequences in [1, 2, 4, 8, 16, 32] {
            let rate = many(&mut model, sequences, work);
            let best = rates.entry(sequences).or_insert(rate);
            *best = rate.max(*best);
        }
    }
    let single = rates[&1];
    for sequences in [1, 2, 4, 8, 16, 32] {
        let rate = rates[&sequences];
        println!("{sequences} sequences: {rate:.1} tokens/s, {:.2} times one", rate / single);
    }
    println!("ratio batch-8 {:.2} goal >= 2.7", rates[&8] / single);
    println!("ratio batch-16 {:.2} goal >= 4.4", rates[&16] / single);

    if !smoke && Path::new(GGUF).exists() {
        let work = Work { rounds: 1, prompt: 64, tokens: 16 };
        let mut model =
            BareModel::from_gguf(Path::new(GGUF)).unwrap_or_else(|error| panic!("{error}"));
        let mut file = File::open(GGUF)?;
        let content = Content::read(&mut file)?;
        let mut theirs = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
        compare(
            ("gguf", "candle's"),
            work,
            || ours(&mut model, work),
            || {
                one(work, |position, tokens| {
                    let mut forward = || {
                        let ids = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
                        likeliest(&theirs.forward(&ids, position)?)
                    };
                    forward().unwrap_or_else(|error| panic!("{error}"))[0]
                })
            },
        );
    }
    Ok(())
}
