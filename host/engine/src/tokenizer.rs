//! Text to tokens and back.

mod bytes;
pub(crate) mod gguf;

#[cfg(test)]
pub(crate) mod tests;

use serde_json::Value;

use crate::{
    checkpoint::Files,
    error::{EngineError, LoadError, first_line},
    guard::{Guard, MARK},
};

const FILE: &str = "tokenizer.json";
const CONFIG_FILE: &str = "tokenizer_config.json";

/// The special tokens that a chat template names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenNames {
    pub(crate) bos: Option<String>,
    pub(crate) eos: Option<String>,
}

/// A tokenizer, and what the engine has to know about its special tokens.
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    names: TokenNames,
    /// Tokens that end a text.
    eos: Vec<u32>,
    /// Put before a prompt whose template doesn't name it.
    implied_bos: Option<u32>,
    /// Bytes of the longest token.
    longest: usize,
}

impl Tokenizer {
    /// From `tokenizer.json` and what stands beside it. `config` is config.json.
    pub(crate) fn from_files(files: &Files, config: &Value) -> Result<Self, LoadError> {
        let text = files.text(FILE)?.ok_or_else(|| files.missing(FILE))?;
        let inner = text
            .parse::<tokenizers::Tokenizer>()
            .map_err(|error| LoadError::Tokenizer(first_line(&error)))?;
        let settings = files.json(CONFIG_FILE)?.unwrap_or_default();
        let names = TokenNames {
            bos: token_name(settings.get("bos_token")),
            eos: token_name(settings.get("eos_token")),
        };

        let generation = files.json("generation_config.json")?.unwrap_or_default();
        let id = |value: &Value| token_ids(value.get("eos_token_id"));
        let eos = id(&generation)
            .or_else(|| id(config))
            .or_else(|| id(config.get("text_config")?))
            .or_else(|| Some(vec![inner.token_to_id(names.eos.as_deref()?)?]))
            .unwrap_or_default();
        Self::new(inner, names, eos)
    }

    pub(crate) fn new(
        mut inner: tokenizers::Tokenizer,
        names: TokenNames,
        eos: Vec<u32>,
    ) -> Result<Self, LoadError> {
        let fail = |error: tokenizers::Error| LoadError::Tokenizer(first_line(&error));
        // A tokenizer may have been saved while it was set up for batches of training data.
        inner.with_truncation(None).map_err(fail)?;
        inner.with_padding(None);
        let longest = inner.get_vocab(true).keys().map(String::len).max().unwrap_or(1).max(1);
        Ok(Self { inner, names, eos, implied_bos: None, longest })
    }

    /// From now on a prompt that doesn't begin with the begin-of-text token gets it, where the tokenizer says that
    /// texts have one: templates of vision models leave it to the processor.
    pub(crate) fn imply_bos(&mut self) {
        let bos = self.names.bos.as_deref().and_then(|bos| self.inner.token_to_id(bos));
        let added = self.inner.encode_fast("", true).ok();
        let first = added.and_then(|encoding| encoding.get_ids().first().copied());
        self.implied_bos = bos.filter(|_| bos == first);
    }

    /// As [`Self::imply_bos`], for a tokenizer that says so elsewhere.
    pub(crate) fn set_implied_bos(&mut self, id: Option<u32>) {
        self.implied_bos = id;
    }

    pub(crate) fn names(&self) -> &TokenNames {
        &self.names
    }

    /// Text of a token.
    pub(crate) fn name(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Tokens that end a text.
    pub(crate) fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// How many tokens there are, the special ones included.
    pub(crate) fn size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// As a `tokenizer.json`.
    pub(crate) fn json(&self) -> Result<String, EngineError> {
        self.inner.to_string(false).map_err(|error| EngineError::Internal(first_line(&error)))
    }

    /// The token that texts begin with, where the tokenizer or whoever loaded it says that they do.
    pub(crate) fn leading(&self) -> Option<u32> {
        let bos = self.names.bos.as_deref().and_then(|bos| self.inner.token_to_id(bos));
        let added = self.inner.encode_fast("", true).ok();
        let first = added.and_then(|encoding| encoding.get_ids().first().copied());
        self.implied_bos.or_else(|| bos.filter(|_| bos == first))
    }

    pub(crate) fn is_eos(&self, id: u32) -> bool {
        self.eos.contains(&id)
    }

    /// What keeps user text apart from special tokens, and from others that the chat template speaks with. `image` is the
    /// text of the image token.
    pub(crate) fn guard(&self, image: Option<&str>, template: &str) -> Guard {
        let added = self.inner.get_added_tokens_decoder();
        let (special, others): (Vec<_>, Vec<_>) =
            added.into_values().partition(|token| token.special);
        let text = |token: tokenizers::AddedToken| token.content;
        let eos = self.eos.iter().filter_map(|id| self.name(*id));
        let named = [self.names.bos.clone(), self.names.eos.clone(), image.map(str::to_owned)];
        let specials = special.into_iter().map(text).chain(eos).chain(named.into_iter().flatten());
        Guard::new(specials, others.into_iter().map(text).filter(|it| is_control(it, template)))
    }

    /// The fewest tokens that `text` can have: known without cutting a text of megabytes into tokens.
    pub(crate) fn fewest_tokens(&self, text: &str) -> usize {
        text.len().div_ceil(self.longest)
    }

    /// Tokens of a rendered prompt, special ones included. It is cut at every [`MARK`].
    pub(crate) fn encode(&self, rendered: &str) -> Result<Vec<u32>, EngineError> {
        let mut ids = Vec::new();
        for piece in rendered.split(MARK).filter(|piece| !piece.is_empty()) {
            let encoding = self
                .inner
                .encode_fast(piece, false)
                .map_err(|error| EngineError::Internal(first_line(&error)))?;
            ids.extend_from_slice(encoding.get_ids());
        }
        if let Some(bos) = self.implied_bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Text of tokens, special ones included.
    pub(crate) fn decode_all(&self, ids: &[u32]) -> Result<String, EngineError> {
        self.inner.decode(ids, false).map_err(|error| EngineError::Internal(first_line(&error)))
    }

    /// Text of tokens, without the special ones. A character that isn't complete shows as U+FFFD.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, EngineError> {
        self.inner.decode(ids, true).map_err(|error| EngineError::Internal(first_line(&error)))
    }
}

/// Whether an added token that is not special speaks to the model all the same: markup that the template writes or looks for, or
/// `<|…|>`, which a template may put together and nobody writes for anything else.
fn is_control(token: &str, template: &str) -> bool {
    let within = |open: &str, close: &str| {
        let name = token.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        name.is_some_and(|name| !name.trim().is_empty())
    };
    within("<|", "|>") || ((within("<", ">") || within("[", "]")) && template.contains(token))
}

/// The chat template beside a tokenizer.
pub(crate) fn chat_template(files: &Files) -> Result<Option<String>, LoadError> {
    if let Some(text) = files.text("chat_template.jinja")? {
        return Ok(Some(text));
    }
    let settings = files.json(CONFIG_FILE)?.unwrap_or_default();
    let named = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        // Several, by name.
        Value::Array(list) => list
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))
            .and_then(|entry| entry.get("template")?.as_str().map(str::to_owned)),
        _ => None,
    };
    Ok(settings.get("chat_template").and_then(named))
}

/// `"</s>"` or `{"content": "</s>", …}`.
fn token_name(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Object(token) => token.get("content")?.as_str().map(str::to_owned),
        _ => None,
    }
}

/// `2` or `[2, 7]`.
fn token_ids(value: Option<&Value>) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value? {
        Value::Array(list) => Some(list.iter().filter_map(id).collect()),
        single => Some(vec![id(single)?]),
    }
}
