//! Messages to what a model reads: tokens, with room for each image.

use std::sync::Arc;

use ::image::DynamicImage;

use crate::{
    error::{EngineError, LoadError},
    guard::Guard,
    job::{Message, Part},
    model::VisionSpec,
    template::ChatTemplate,
    tokenizer::Tokenizer,
};

/// Everything that stands between people's messages and a model. A model and its adapters share one.
pub(crate) struct Prompter {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    guard: Guard,
}

/// A prompt as tokens.
pub(crate) struct Encoded {
    /// One image token has become as many as the image has features.
    pub(crate) tokens: Vec<u32>,
    pub(crate) images: Vec<Arc<DynamicImage>>,
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
        let guard = tokenizer.guard(image.as_deref());
        let template = ChatTemplate::new(template, tokenizer.names().clone(), image)?;
        Ok(Self { tokenizer, template, guard })
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Tokens of a conversation. At least one position of `context` is left for the answer.
    pub(crate) fn encode(
        &self,
        messages: &[Message],
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
        let rendered = self.template.render(messages, &self.guard)?;
        fits(self.tokenizer.fewest_tokens(&rendered), context)?;
        let mut tokens = self.tokenizer.encode(&rendered)?;
        let mut image_tokens = 0;
        if let Some(vision) = vision {
            let places = tokens.iter().filter(|token| **token == vision.image_token).count();
            if places != images.len() {
                return Err(EngineError::Template(format!(
                    "the template makes room for {places} of {} images",
                    images.len()
                )));
            }
            image_tokens = places.saturating_mul(vision.tokens_per_image);
            fits(tokens.len().saturating_sub(places).saturating_add(image_tokens), context)?;
            tokens = expand(&tokens, vision);
        }
        fits(tokens.len(), context)?;
        if tokens.is_empty() {
            return Err(EngineError::Template("the template made an empty prompt".into()));
        }
        Ok(Encoded { tokens, images, image_tokens })
    }
}

fn fits(tokens: usize, context: usize) -> Result<(), EngineError> {
    if tokens < context { Ok(()) } else { Err(EngineError::PromptTooLong { tokens, context }) }
}

fn expand(tokens: &[u32], vision: &VisionSpec) -> Vec<u32> {
    let times = |token: u32| if token == vision.image_token { vision.tokens_per_image } else { 1 };
    tokens.iter().flat_map(|token| std::iter::repeat_n(*token, times(*token))).collect()
}
