//! What limits the tokens of an answer: the sampler asks before it chooses, and tells what it chose.

use crate::error::EngineError;

pub(crate) trait Mask: Send {
    /// Makes the logits of tokens that must not come next negative infinity.
    fn allow(&mut self, logits: &mut [f32]) -> Result<(), EngineError>;

    /// Takes the chosen token; true when the text is complete and nothing may follow.
    fn accept(&mut self, token: u32) -> Result<bool, EngineError>;
}
