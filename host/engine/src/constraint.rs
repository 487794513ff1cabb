//! What keeps an answer to a grammar: JSON Schema, regular expressions and Lark grammars become masks over tokens.
//!
//! The crate `llguidance` does the work. Compiling takes from under a millisecond to a second, so it is asked for before a
//! job is handed in ([`Constraints::check`]); the engine then finds it in the cache. It knows no model and no sampling.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use llguidance::{
    Matcher, ParserFactory, api::TopLevelGrammar, earley::SlicedBiasComputer,
    token_bytes_from_tokenizer_json,
};
use serde_json::{Value, json};
use thiserror::Error;
use toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

use crate::{error::EngineError, job::Constraint, sampler::mask::Mask, tokenizer::Tokenizer};

/// 32: as many forms of answers as a busy application has; the one that was not asked for longest goes.
const COMPILED_MAX: usize = 32;
/// 256 KiB: some thousand fields. OpenAI takes 120 kB of names.
const SOURCE_BYTES_MAX: usize = 256 << 10;
/// Symbols: larger than any schema in use, and made in well under a second.
const GRAMMAR_SIZE_MAX: usize = 200_000;
/// Each takes one to two kB, and lives as long as the grammar is in the cache.
const LEXER_STATES_MAX: usize = 20_000;
/// Steps that making the lexer may take: 50 000 a millisecond.
const LEXER_FUEL: u64 = 5_000_000;

/// Why an answer cannot be kept to a constraint. It may repeat words of whoever wrote it: it is content.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConstraintError {
    #[error("is larger than {limit} bytes: make it smaller")]
    TooLarge { limit: usize },
    #[error("cannot be followed: {0}")]
    Unusable(String),
    #[error("cannot be followed by this model: {0}")]
    Model(String),
}

impl From<ConstraintError> for EngineError {
    fn from(it: ConstraintError) -> Self {
        Self::Constraint(it.to_string())
    }
}

/// The constraints that one tokenizer's models were asked for.
#[derive(Default)]
pub(crate) struct Constraints {
    /// Made when it is first needed: it takes a second for the largest vocabularies.
    factory: OnceLock<Result<ParserFactory, ConstraintError>>,
    /// The latest at the end.
    compiled: Mutex<VecDeque<(Constraint, Matcher)>>,
}

impl Constraints {
    /// Compiles, so that [`Self::mask`] need not.
    pub(crate) fn check(
        &self,
        tokenizer: &Tokenizer,
        constraint: &Constraint,
    ) -> Result<(), ConstraintError> {
        self.matcher(tokenizer, constraint).map(drop)
    }

    /// A mask at the beginning of its text.
    pub(crate) fn mask(
        &self,
        tokenizer: &Tokenizer,
        constraint: &Constraint,
    ) -> Result<TokenMask, ConstraintError> {
        Ok(TokenMask { matcher: self.matcher(tokenizer, constraint)? })
    }

    fn matcher(
        &self,
        tokenizer: &Tokenizer,
        constraint: &Constraint,
    ) -> Result<Matcher, ConstraintError> {
        if let Some(known) = self.known(constraint) {
            return Ok(known);
        }
        let factory = self.factory.get_or_init(|| factory(tokenizer));
        let matcher = compile(factory.as_ref().map_err(Clone::clone)?, constraint)?;
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.len() >= COMPILED_MAX {
            compiled.pop_front();
        }
        compiled.push_back((constraint.clone(), matcher.clone()));
        Ok(matcher)
    }

    fn known(&self, constraint: &Constraint) -> Option<Matcher> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let at = compiled.iter().position(|(it, _)| it == constraint)?;
        let found = compiled.remove(at)?;
        let matcher = found.1.clone();
        compiled.push_back(found);
        Some(matcher)
    }
}

/// One answer on its way through a grammar.
pub(crate) struct TokenMask {
    matcher: Matcher,
}

impl Mask for TokenMask {
    fn allow(&mut self, logits: &mut [f32]) -> Result<(), EngineError> {
        let reason = self.matcher.stop_reason();
        if !reason.is_ok() {
            // An end here would pass for a complete answer.
            return Err(EngineError::Constraint(format!("became too complex: {reason}")));
        }
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| failed(&error))?;
        let mut any = false;
        for (token, logit) in logits.iter_mut().enumerate() {
            if token < allowed.len() && allowed.get(token) {
                any = true;
            } else {
                *logit = f32::NEG_INFINITY;
            }
        }
        if any {
            Ok(())
        } else {
            Err(EngineError::Constraint("no token of the model goes on with it".to_owned()))
        }
    }

    fn accept(&mut self, token: u32) -> Result<bool, EngineError> {
        if self.matcher.is_stopped() {
            return Ok(true);
        }
        self.matcher.consume_token(token).map_err(|error| failed(&error))?;
        Ok(self.matcher.is_stopped())
    }
}

fn failed(error: &dyn std::fmt::Display) -> EngineError {
    EngineError::Constraint(crate::error::first_line(error))
}

/// llguidance's view of a vocabulary.
fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, ConstraintError> {
    let made = catch_unwind(AssertUnwindSafe(|| -> Result<_, String> {
        let json: Value = serde_json::from_str(&tokenizer.json().map_err(|it| it.to_string())?)
            .map_err(|it| it.to_string())?;
        let bytes = token_bytes_from_tokenizer_json(&json).map_err(|it| first_line(&it))?;
        let size = u32::try_from(bytes.len()).map_err(|it| it.to_string())?;
        let eos: Vec<u32> = tokenizer.eos().iter().copied().filter(|it| *it < size).collect();
        let first = *eos.first().ok_or("it has no token that ends a text")?;
        let trie = TokTrie::from(&TokRxInfo::new(size, first), &bytes).with_eos_tokens(&eos);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
            .map_err(|it| first_line(&it))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.max_grammar_size = GRAMMAR_SIZE_MAX;
        limits.max_lexer_states = LEXER_STATES_MAX;
        limits.initial_lexer_fuel = LEXER_FUEL;
        // They would repeat the answer.
        limits.verbose_errors = false;
        Ok(factory)
    }));
    made.unwrap_or_else(|_| Err("its tokenizer is of an unknown kind".to_owned()))
        .map_err(ConstraintError::Model)
}

fn compile(factory: &ParserFactory, constraint: &Constraint) -> Result<Matcher, ConstraintError> {
    let bytes = match constraint {
        Constraint::JsonObject => 0,
        Constraint::JsonSchema(schema) => schema.to_string().len(),
        Constraint::Regex(text) | Constraint::Grammar(text) => text.len(),
    };
    if bytes > SOURCE_BYTES_MAX {
        return Err(ConstraintError::TooLarge { limit: SOURCE_BYTES_MAX });
    }
    let grammar = match constraint {
        Constraint::JsonObject => {
            TopLevelGrammar::from_json_schema(json_in_grammar(json!({"type": "object"})))
        }
        Constraint::JsonSchema(schema) => {
            TopLevelGrammar::from_json_schema(json_in_grammar(schema.clone()))
        }
        Constraint::Regex(text) => TopLevelGrammar::from_regex(text),
        Constraint::Grammar(text) => TopLevelGrammar::from_lark(text.clone()),
    };
    let parser = catch_unwind(AssertUnwindSafe(|| factory.create_parser(grammar)));
    let parser = parser
        .map_err(|_| ConstraintError::Unusable("its compiler gave up".to_owned()))?
        .map_err(|error| ConstraintError::Unusable(first_line(&error)))?;
    let matcher = Matcher::new(Ok(parser));
    match matcher.get_error() {
        Some(error) => Err(ConstraintError::Unusable(first_line(&error))),
        None => Ok(matcher),
    }
}

/// A schema as it stands in a grammar: at most one space after a comma and a colon, and none elsewhere, since a model that
/// may write white space may do so for ever.
/// A schema that says more about its form keeps it.
pub fn json_in_grammar(mut schema: Value) -> Value {
    let form = json!({
        "whitespace_flexible": false, "item_separator": ",[ ]?", "key_separator": ":[ ]?",
    });
    match &mut schema {
        Value::Object(map) => {
            map.entry("x-guidance").or_insert(form);
            schema
        }
        // `true`: any JSON. Whatever else it is, it is refused when it is compiled.
        Value::Bool(true) => json!({"x-guidance": form}),
        _ => schema,
    }
}

fn first_line(error: &dyn std::fmt::Display) -> String {
    crate::error::first_line(error)
}
