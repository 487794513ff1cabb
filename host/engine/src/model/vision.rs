//! What a model wants of images, and which tokens stand for one.

use crate::{error::EngineError, image::Preprocess};

/// What a model wants of images.
#[derive(Clone, Debug)]
pub(crate) struct VisionSpec {
    pub(crate) image_token: u32,
    pub(crate) tokens: ImageTokens,
    pub(crate) preprocess: Preprocess,
}

/// How many tokens stand for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageTokens {
    /// So many for each, whatever its size.
    Fixed(usize),
    /// One for each square with sides of so many pixels, after [`Preprocess`].
    Squares(u32),
}

/// The tokens of an image: rows, one below the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

/// An image in a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// Its first token.
    pub(crate) at: usize,
    pub(crate) extent: Extent,
}

impl VisionSpec {
    /// The tokens of an image of so many pixels. One that would fill a whole `context` is refused.
    pub(crate) fn extent(
        &self,
        width: u32,
        height: u32,
        context: usize,
    ) -> Result<Extent, EngineError> {
        let side = match self.tokens {
            ImageTokens::Fixed(tokens) => return Ok(Extent { rows: 1, columns: tokens }),
            ImageTokens::Squares(side) => side.max(1),
        };
        let made = self.preprocess.size(width, height)?;
        let squares = |pixels: u32| (pixels / side) as usize;
        let extent = Extent { rows: squares(made.1), columns: squares(made.0) };
        if extent.tokens() < context {
            return Ok(extent);
        }
        Err(EngineError::BadImage(format!(
            "{width} x {height} pixels become {} tokens and the model holds {context}, text and answer included; send a smaller one",
            extent.tokens()
        )))
    }
}

impl Extent {
    pub(crate) fn tokens(self) -> usize {
        self.rows.saturating_mul(self.columns)
    }
}

impl Area {
    /// The first token after it.
    pub(crate) fn end(self) -> usize {
        self.at.saturating_add(self.extent.tokens())
    }
}
