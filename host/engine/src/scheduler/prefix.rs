//! Which blocks of two texts hold the same: keys of full blocks. It knows no pool and no schedule.
//!
//! A key is the SHA-256 of the key before it, the tokens, and what keys and values depend on besides: the adapter, and the
//! pixels of images, whose tokens are all alike. So equal keys mean equal texts from their beginning, also where somebody
//! tries to make them differ.

use sha2::{Digest, Sha256};

use super::pool::Key;

/// An image in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its first token.
    pub(crate) at: usize,
    pub(crate) tokens: usize,
    /// Stands for its pixels.
    pub(crate) digest: Key,
}

impl Mark {
    /// The first token after it.
    pub(crate) fn end(&self) -> usize {
        self.at + self.tokens
    }
}

/// What the keys of one text depend on besides its tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Salt {
    /// A number that no other adapter has had, nor an earlier one of the same name; 0 is the model alone.
    pub(crate) adapter: u64,
    pub(crate) images: Vec<Mark>,
}

impl Salt {
    /// Adds to `keys`, those of the first blocks of `tokens`, until there are `blocks` of them.
    pub(crate) fn extend(
        &self,
        keys: &mut Vec<Key>,
        tokens: &[u32],
        block_tokens: usize,
        blocks: usize,
    ) {
        for block in keys.len()..blocks {
            let (start, end) = (block * block_tokens, (block + 1) * block_tokens);
            let Some(part) = tokens.get(start..end) else { return };
            let mut digest = Sha256::new();
            match keys.last() {
                Some(parent) => digest.update(parent),
                None => digest.update(self.adapter.to_le_bytes()),
            }
            for token in part {
                digest.update(token.to_le_bytes());
            }
            for image in self.images.iter().filter(|it| it.at < end && it.end() > start) {
                digest.update((image.at as u64).to_le_bytes());
                digest.update(image.digest);
            }
            keys.push(digest.finalize().into());
        }
    }
}

/// What stands for the pixels of an image.
pub(crate) fn image_digest(image: &::image::DynamicImage) -> Key {
    let mut digest = Sha256::new();
    digest.update(image.width().to_le_bytes());
    digest.update(image.height().to_le_bytes());
    digest.update(format!("{:?}", image.color()));
    digest.update(image.as_bytes());
    digest.finalize().into()
}
