//! The tokenizer that a GGUF file carries in its metadata: byte-level BPE.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use tokenizers::{
    AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior,
    models::bpe::{BPE, Vocab},
    pre_tokenizers::{
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{TokenNames, Tokenizer};
use crate::error::{LoadError, first_line};

/// A GGUF file's metadata, by key.
pub(crate) type Metadata = HashMap<String, Value>;

/// The type of special tokens.
const CONTROL: u64 = 3;
/// The type of tokens that are found before a text is cut into words, and that are text all the same.
const USER_DEFINED: u64 = 4;

/// How Llama 3 cuts a text into words.
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Builds the tokenizer.
pub(crate) fn tokenizer(metadata: &Metadata) -> Result<Tokenizer, LoadError> {
    let model = text(metadata, "tokenizer.ggml.model").unwrap_or_default();
    if model != "gpt2" {
        return Err(LoadError::Unsupported {
            feature: format!("a GGUF tokenizer of type {model:?}"),
            instead: "use a file with a byte-level BPE tokenizer (type gpt2), or the safetensors folder of the model",
        });
    }
    let tokens = strings(metadata, "tokenizer.ggml.tokens")?;
    let merges = strings(metadata, "tokenizer.ggml.merges")?
        .into_iter()
        .map(|merge| match merge.split_once(' ') {
            Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
            None => Err(LoadError::Tokenizer(format!("merge {merge:?} has no space in it"))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let (words, whole_words) = words(text(metadata, "tokenizer.ggml.pre").unwrap_or("default"))?;

    let fail = |error: tokenizers::Error| LoadError::Tokenizer(first_line(&error));
    let vocab: Vocab =
        tokens.iter().zip(0u32..).map(|(token, id)| ((*token).to_owned(), id)).collect();
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(whole_words)
        .build()
        .map_err(fail)?;
    let mut inner = tokenizers::Tokenizer::new(bpe);
    inner.with_pre_tokenizer(Some(words));
    inner.with_decoder(Some(ByteLevel::default()));
    inner.add_special_tokens(added(metadata, &tokens, CONTROL)).map_err(fail)?;
    inner.add_tokens(added(metadata, &tokens, USER_DEFINED)).map_err(fail)?;

    let id = |key: &str| number(metadata, key).and_then(|id| u32::try_from(id).ok());
    let name = |id: Option<u32>| Some((*tokens.get(id? as usize)?).to_owned());
    let bos = id("tokenizer.ggml.bos_token_id");
    let eos = id("tokenizer.ggml.eos_token_id");
    let ends = eos.into_iter().chain(id("tokenizer.ggml.eot_token_id")).collect();
    let mut tokenizer = Tokenizer::new(inner, TokenNames { bos: name(bos), eos: name(eos) }, ends)?;
    if matches!(metadata.get("tokenizer.ggml.add_bos_token"), Some(Value::Bool(true))) {
        tokenizer.set_implied_bos(bos);
    }
    Ok(tokenizer)
}

/// How a text is cut into words before merging, and whether a word that is a token stays whole whatever the merges say.
fn words(pre: &str) -> Result<(PreTokenizerWrapper, bool), LoadError> {
    match pre {
        "default" | "gpt2" | "gpt-2" => Ok((ByteLevel::new(false, true, true).into(), false)),
        "smollm" | "starcoder" | "refact" => {
            let steps = vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
            Ok((Sequence::new(steps).into(), false))
        }
        "llama-bpe" | "llama3" | "llama-v3" => {
            let pattern = SplitPattern::Regex(LLAMA3_WORDS.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|error| LoadError::Tokenizer(first_line(&error)))?;
            let steps = vec![split.into(), ByteLevel::new(false, true, false).into()];
            Ok((Sequence::new(steps).into(), true))
        }
        other => Err(LoadError::Unsupported {
            feature: format!("a GGUF tokenizer that cuts words as {other:?}"),
            instead: "known are default, gpt-2, smollm, starcoder, refact and llama-bpe; use the safetensors folder of the model",
        }),
    }
}

/// The tokens of one type.
fn added(metadata: &Metadata, tokens: &[&str], kind: u64) -> Vec<AddedToken> {
    let types = match metadata.get("tokenizer.ggml.token_type") {
        Some(Value::Array(types)) => types.as_slice(),
        _ => &[],
    };
    types
        .iter()
        .zip(tokens)
        .filter(|(found, _)| integer(found) == Some(kind))
        .map(|(_, token)| AddedToken::from(*token, kind == CONTROL))
        .collect()
}

/// A text of the metadata.
pub(crate) fn text<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    match metadata.get(key)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// A whole number of the metadata.
pub(crate) fn number(metadata: &Metadata, key: &str) -> Option<u64> {
    integer(metadata.get(key)?)
}

fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::I8(n) => u64::try_from(*n).ok(),
        Value::I16(n) => u64::try_from(*n).ok(),
        Value::I32(n) => u64::try_from(*n).ok(),
        Value::I64(n) => u64::try_from(*n).ok(),
        other => other.to_u64().ok(),
    }
}

fn strings<'a>(metadata: &'a Metadata, key: &str) -> Result<Vec<&'a str>, LoadError> {
    let Some(Value::Array(values)) = metadata.get(key) else {
        return Err(LoadError::Tokenizer(format!("the GGUF metadata has no list {key}")));
    };
    values
        .iter()
        .map(|value| match value {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(LoadError::Tokenizer(format!("{key} holds something that is not text"))),
        })
        .collect()
}
