//! Messages to what a model reads: tokens, with room for each image.

use std::sync::Arc;

use ::image::DynamicImage;
use serde_json::Value;

use crate::{
    constraint::{ConstraintError, Constraints, TokenMask},
    error::{EngineError, LoadError},
    guard::Guard,
    job::{Constraint, Message, Part, Prompt},
    model::{Extent, VisionSpec},
    template::ChatTemplate,
    tokenizer::Tokenizer,
    tools::ToolFormat,
};

/// Everything that stands between people's messages and a model. A model and its adapters share one.
pub(crate) struct Prompter {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    guard: Guard,
    constraints: Constraints,
    image_token: Option<u32>,
}

/// A prompt as tokens.
pub(crate) struct Encoded {
    /// One image token has become as many as the image has features.
    pub(crate) tokens: Vec<u32>,
    pub(crate) images: Vec<Arc<DynamicImage>>,
    /// The tokens of each image.
    pub(crate) extents: Vec<Extent>,
    /// How many of the tokens stand for images.
    pub(crate) image_tokens: usize,
}

impl Prompter {
    /// `image_token` is that of a model that sees.
    pub(crate) fn new(
        tokenizer: Tokenizer,
        template: &str,
        image_token: Option<u32>,
    ) -> Result<Self, LoadError> {
        let image = match image_token {
            Some(id) => Some(tokenizer.name(id).ok_or_else(|| {
                LoadError::Tokenizer(format!(
                    "it has no token {id}, the image token of config.json"
                ))
            })?),
            None => None,
        };
        let guard = tokenizer.guard(image.as_deref(), template);
        let template = ChatTemplate::new(template, tokenizer.names().clone(), image)?;
        Ok(Self { tokenizer, template, guard, constraints: Constraints::default(), image_token })
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How a model writes calls after its template.
    pub(crate) fn tool_format(&self) -> ToolFormat {
        self.template.tool_format()
    }

    /// Compiles a constraint, so that [`Self::mask`] is quick.
    pub(crate) fn check(&self, constraint: &Constraint) -> Result<(), ConstraintError> {
        self.constraints.check(&self.tokenizer, constraint)
    }

    /// What keeps one answer to a constraint.
    pub(crate) fn mask(&self, constraint: &Constraint) -> Result<TokenMask, ConstraintError> {
        self.constraints.mask(&self.tokenizer, constraint)
    }

    /// Tokens of a prompt. At least one position of `context` is left for the answer.
    pub(crate) fn encode_prompt(
        &self,
        prompt: &Prompt,
        vision: Option<&VisionSpec>,
        context: usize,
    ) -> Result<Encoded, EngineError> {
        let tokens = match prompt {
            Prompt::Chat { messages, tools } => {
                return self.encode(messages, tools, vision, context);
            }
            Prompt::Text(text) => {
                fits(self.tokenizer.fewest_tokens(text), context)?;
                self.text(text, true)?
            }
            Prompt::Tokens(tokens) => {
                let known = self.tokenizer.size();
                if let Some(token) = tokens.iter().find(|it| **it as usize >= known) {
                    let reason = format!("there is no token {token}, only {known}");
                    return Err(EngineError::BadPrompt(reason));
                }
                tokens.clone()
            }
        };
        if self.image_token.is_some_and(|it| tokens.contains(&it)) {
            return Err(EngineError::BadPrompt("it claims an image that is not there".to_owned()));
        }
        if tokens.is_empty() {
            return Err(EngineError::BadPrompt("it is empty".to_owned()));
        }
        fits(tokens.len(), context)?;
        Ok(Encoded { tokens, images: Vec::new(), extents: Vec::new(), image_tokens: 0 })
    }

    /// Tokens of a text that is no conversation. Special tokens in it are text. `begin` puts the token before it that texts
    /// begin with, if there is one.
    pub(crate) fn text(&self, text: &str, begin: bool) -> Result<Vec<u32>, EngineError> {
        let mut tokens = self.tokenizer.encode(&self.guard.neutralize_own(text))?;
        if let Some(first) = self.tokenizer.leading() {
            let is_there = tokens.first() == Some(&first);
            if begin && !is_there {
                tokens.insert(0, first);
            } else if !begin && is_there {
                tokens.remove(0);
            }
        }
        Ok(tokens)
    }

    /// Tokens of a conversation without images, however many they are.
    pub(crate) fn conversation(
        &self,
        messages: &[Message],
        tools: &[Value],
    ) -> Result<Vec<u32>, EngineError> {
        self.tokenizer.encode(&self.template.render(messages, tools, &self.guard)?)
    }

    /// Tokens of a conversation. At least one position of `context` is left for the answer.
    pub(crate) fn encode(
        &self,
        messages: &[Message],
        tools: &[Value],
        vision: Option<&VisionSpec>,
        context: usize,
    ) -> Result<Encoded, EngineError> {
        let images: Vec<_> = messages
            .iter()
            .flat_map(|message| &message.content)
            .filter_map(|part| match part {
                Part::Image(image) => Some(Arc::clone(image)),
                Part::Text(_) => None,
            })
            .collect();
        let rendered = self.template.render(messages, tools, &self.guard)?;
        fits(self.tokenizer.fewest_tokens(&rendered), context)?;
        let mut tokens = self.tokenizer.encode(&rendered)?;
        let (mut extents, mut image_tokens) = (Vec::new(), 0);
        if let Some(vision) = vision {
            let places = tokens.iter().filter(|token| **token == vision.image_token).count();
            if places != images.len() {
                return Err(EngineError::Template(format!(
                    "the template makes room for {places} of {} images",
                    images.len()
                )));
            }
            for image in &images {
                extents.push(vision.extent(image.width(), image.height(), context)?);
            }
            image_tokens = extents.iter().fold(0, |sum: usize, it| sum.saturating_add(it.tokens()));
            fits(tokens.len().saturating_sub(places).saturating_add(image_tokens), context)?;
            tokens = expand(&tokens, vision.image_token, &extents);
        }
        fits(tokens.len(), context)?;
        if tokens.is_empty() {
            return Err(EngineError::Template("the template made an empty prompt".into()));
        }
        Ok(Encoded { tokens, images, extents, image_tokens })
    }
}

fn fits(tokens: usize, context: usize) -> Result<(), EngineError> {
    if tokens < context { Ok(()) } else { Err(EngineError::PromptTooLong { tokens, context }) }
}

/// `tokens` with as many image tokens for each image as `extents` say.
fn expand(tokens: &[u32], image_token: u32, extents: &[Extent]) -> Vec<u32> {
    let mut images = extents.iter();
    let mut times = |token: u32| match token == image_token {
        true => images.next().map_or(1, |it| it.tokens()),
        false => 1,
    };
    tokens.iter().flat_map(|token| std::iter::repeat_n(*token, times(*token))).collect()
}
