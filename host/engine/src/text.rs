//! What callers ask of a model's tokenizer and template without a job: tokens of texts, texts of tokens, and whether a
//! constraint can be followed. It runs on the caller's thread, not on the engine's.

use serde_json::Value;
use thiserror::Error;

use crate::{
    constraint::ConstraintError,
    engine::EngineHandle,
    error::EngineError,
    job::{Constraint, Message},
    tools::ToolFormat,
};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    #[error("no model or adapter is named {0}")]
    UnknownModel(String),
    #[error("{0}")]
    Failed(EngineError),
}

impl EngineHandle {
    /// Tokens of a text. `begin` puts the token before it that the model's texts begin with.
    pub fn tokenize(&self, model: &str, text: &str, begin: bool) -> Result<Vec<u32>, TextError> {
        self.prompter(model)?.text(text, begin).map_err(TextError::Failed)
    }

    /// Tokens of a conversation without images, up to where the answer begins.
    pub fn tokenize_chat(
        &self,
        model: &str,
        messages: &[Message],
        tools: &[Value],
    ) -> Result<Vec<u32>, TextError> {
        self.prompter(model)?.conversation(messages, tools).map_err(TextError::Failed)
    }

    /// Text of tokens, special ones included.
    pub fn detokenize(&self, model: &str, tokens: &[u32]) -> Result<String, TextError> {
        self.prompter(model)?.tokenizer().decode_all(tokens).map_err(TextError::Failed)
    }

    /// How a model writes calls of tools.
    pub fn tool_format(&self, model: &str) -> ToolFormat {
        self.prompter(model).map_or_else(|_| ToolFormat::default(), |it| it.tool_format())
    }

    /// Whether answers can be kept to a constraint. It may compute for a second; a job with the same constraint begins at
    /// once afterwards.
    pub fn check_constraint(
        &self,
        model: &str,
        constraint: &Constraint,
    ) -> Result<(), ConstraintError> {
        let prompter =
            self.prompter(model).map_err(|error| ConstraintError::Model(error.to_string()))?;
        prompter.check(constraint)
    }
}
