//! Texts as vectors.

use super::{config, finish, job};
use crate::{
    Config, EmbedError, EmbedInput, EmbedRequest, Embeddings, EngineHandle, SubmitError, start,
};

fn embed(
    engine: &EngineHandle,
    model: &str,
    inputs: &[EmbedInput],
    dimensions: Option<usize>,
) -> Result<Embeddings, EmbedError> {
    embed_by(engine, model, None, inputs, dimensions)
}

fn embed_by(
    engine: &EngineHandle,
    model: &str,
    adapter: Option<&str>,
    inputs: &[EmbedInput],
    dimensions: Option<usize>,
) -> Result<Embeddings, EmbedError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let request = EmbedRequest {
        model: model.to_owned(),
        adapter_requested: adapter.map(str::to_owned),
        inputs: inputs.to_vec(),
        dimensions,
        span: tracing::Span::none(),
    };
    runtime.block_on(engine.embed(request))
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|it| it * it).sum::<f32>().sqrt()
}

#[test]
fn texts_become_vectors() {
    let engine = start(config("llama", &["llama-lora"])).unwrap();
    let handle = engine.handle();
    let texts = ["hello", "a longer question, which is read in pieces", "why?"];
    let inputs = texts.map(|it| EmbedInput::Text(it.to_owned()));
    let made = embed(&handle, "llama", &inputs, None).unwrap();
    let tokens = texts.map(|it| handle.tokenize("llama", it, true).unwrap());
    assert_eq!(made.input_tokens, tokens.iter().map(Vec::len).sum::<usize>());
    assert_eq!(made.vectors.len(), 3);
    for (at, vector) in made.vectors.iter().enumerate() {
        assert_eq!(vector.len(), handle.embedding_size());
        assert!((length(vector) - 1.0).abs() < 1e-5, "{}", length(vector));
        let alone = embed(&handle, "llama", &inputs[at..=at], None).unwrap();
        assert_eq!(alone.vectors[0], *vector);
        let told = [EmbedInput::Tokens(tokens[at].clone())];
        assert_eq!(embed(&handle, "llama", &told, None).unwrap().vectors[0], *vector);
        let adapted = embed(&handle, "llama-lora", &inputs[at..=at], None).unwrap();
        assert!(distance(&adapted.vectors[0], vector) > 1e-3);
        let named = Some("llama-lora");
        let beside = embed_by(&handle, "llama", named, &inputs[at..=at], None).unwrap();
        assert_eq!(beside, adapted);
        for other in &made.vectors[..at] {
            assert!(distance(other, vector) > 1e-3);
        }
    }
    let vector = &made.vectors[0];
    let short = embed(&handle, "llama", &inputs[..1], Some(3)).unwrap().vectors.remove(0);
    let first = &vector[..3];
    let scaled: Vec<f32> = first.iter().map(|it| it / length(first)).collect();
    assert!(distance(&short, &scaled) < 1e-5);

    // Read in pieces, it is the same but for the order of sums.
    let small = Config { max_num_batched_tokens: Some(3), ..config("llama", &[]) };
    let in_pieces = start(small).unwrap();
    let again = embed(&in_pieces.handle(), "llama", &inputs, None).unwrap();
    for (vector, again) in made.vectors.iter().zip(&again.vectors) {
        assert!(distance(vector, again) < 1e-4, "{}", distance(vector, again));
    }
}

#[test]
fn vectors_change_no_text() {
    let engine = start(config("llama", &["llama-lora"])).unwrap();
    let long = || {
        let mut job = job("llama", "hello");
        job.sampling.max_tokens = Some(60);
        job.sampling.ignore_eos = true;
        job
    };
    let alone = finish(engine.submit(long()).unwrap()).0;
    let running = engine.submit(long()).unwrap();
    let inputs: Vec<_> = (0..6).map(|at| EmbedInput::Text(format!("question {at}"))).collect();
    let made = embed(&engine.handle(), "llama-lora", &inputs, None).unwrap();
    assert_eq!(made.vectors.len(), 6);
    assert_eq!(finish(running).0, alone);
}

#[test]
fn texts_of_which_no_vector_can_be_made_are_refused() {
    let engine = start(config("llama", &[])).unwrap();
    let handle = engine.handle();
    let long = [EmbedInput::Text("long ".repeat(600))];
    let unknown = [EmbedInput::Tokens(vec![1, 99_999])];
    for (inputs, expected) in [(long, "prompt_too_long"), (unknown, "bad_prompt")] {
        let Err(EmbedError::Failed(error)) = embed(&handle, "llama", &inputs, None) else {
            panic!("it was taken");
        };
        assert_eq!((error.error_type(), error.is_client_error()), (expected, true));
    }
    let hello = [EmbedInput::Text("hello".to_owned())];
    let nobody = embed(&handle, "gpt", &hello, None).unwrap_err();
    assert_eq!(nobody, EmbedError::Refused(SubmitError::UnknownModel("gpt".into())));
    let nobody = embed_by(&handle, "llama", Some("sql"), &hello, None).unwrap_err();
    assert_eq!(nobody, EmbedError::Refused(SubmitError::UnknownModel("sql".into())));
}
