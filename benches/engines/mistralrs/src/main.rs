//! mistral.rs for benches/engines.rs: PROGRAM MODEL PROMPT TOKENS. It reads lines, and answers each with the seconds that it took.

use std::{
    io::{BufRead as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use mistralrs::{
    GgufModelBuilder, Model, NormalRequest, Request, RequestMessage, Response, SamplingParams,
};
use tokio::sync::mpsc::channel;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("MODEL PROMPT TOKENS");
    let (model, prompt, tokens) = (next()?, next()?.parse::<u32>()?, next()?.parse::<usize>()?);
    let path = Path::new(&model);
    let folder = path.parent().context("a path of a file")?.display().to_string();
    let file = path.file_name().context("a path of a file")?.to_string_lossy().into_owned();
    let model = GgufModelBuilder::new(folder, vec![file])
        .with_force_cpu()
        // Each turn reads the same prompt.
        .with_prefix_cache_n(None)
        .build()
        .await?;
    say("mistralrs 0.8.1, built for this machine")?;
    let prompt: Vec<u32> = (0..prompt).map(|at| 1000 + at * 37 % 40_000).collect();
    for line in std::io::stdin().lock().lines() {
        line?;
        let (prefill, decode) = turn(&model, prompt.clone(), tokens).await?;
        say(&format!("{{\"prefill\": {prefill}, \"decode\": {decode}}}"))?;
    }
    Ok(())
}

/// Seconds for the prompt, and for so many tokens after it: an answer that ended earlier counts by its tokens.
async fn turn(model: &Model, prompt: Vec<u32>, tokens: usize) -> Result<(f32, f32)> {
    let (sender, mut answers) = channel(1);
    let sampling = SamplingParams { max_len: Some(tokens + 1), ..SamplingParams::deterministic() };
    let messages = RequestMessage::CompletionTokens(prompt);
    let request = NormalRequest::new_simple(messages, sampling, sender, 0, None, None);
    model.inner().get_sender(None)?.send(Request::Normal(Box::new(request))).await?;
    match answers.recv().await.context("no answer")? {
        Response::CompletionDone(done) => {
            let usage = done.usage;
            // The first token comes with the prompt.
            let each = usage.total_completion_time_sec / (usage.completion_tokens - 1).max(1) as f32;
            Ok((usage.total_prompt_time_sec, each * tokens as f32))
        }
        Response::InternalError(error) | Response::ValidationError(error) => bail!("{error}"),
        _ => bail!("another kind of answer"),
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
