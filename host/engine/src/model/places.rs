//! Where the tokens of a sequence with images are, for rotary positions of three coordinates.
//!
//! A token of text has one place, three times. The tokens of an image lie in a plane behind the text before it: all at one time,
//! and at the height and the width of their square. What follows comes after the longer side, so that a sequence with images is
//! shorter in places than in tokens. This is `get_rope_index` of transformers' Qwen3-VL, for images.

use serde_json::Value;

use super::{Area, bad_config, unsupported};
use crate::error::LoadError;

/// The coordinates of a token, by [`Axis`].
pub(super) type Place = [u32; 3];

/// The coordinate by which a pair of numbers of a head is turned: its index in a [`Place`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Time = 0,
    Height = 1,
    Width = 2,
}

/// How many pairs of a head each axis turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sections {
    pairs: usize,
    height: usize,
    width: usize,
}

impl Sections {
    /// Takes its keys out of a `rope_parameters`, or of a `rope_scaling` as older files have it. `pairs` is how many a head has.
    pub(super) fn read(raw: &mut Value, pairs: usize) -> Result<Self, LoadError> {
        let mut take = |key: &str| {
            let value = raw.as_object_mut()?.remove(key)?;
            (!value.is_null()).then_some(value)
        };
        match take("mrope_interleaved") {
            None | Some(Value::Bool(true)) => {}
            Some(other) => return Err(unsupported(&format!("mrope_interleaved {other}"))),
        }
        let Some(section) = take("mrope_section") else {
            // What transformers takes, however many pairs there are.
            return Ok(Self { pairs, height: 20, width: 20 });
        };
        let sizes: Option<Vec<usize>> = section.as_array().and_then(|sizes| {
            sizes.iter().map(|size| usize::try_from(size.as_u64()?).ok()).collect()
        });
        match sizes.as_deref() {
            Some([time, height, width])
                if time.checked_add(*height).and_then(|it| it.checked_add(*width))
                    == Some(pairs) =>
            {
                Ok(Self { pairs, height: *height, width: *width })
            }
            _ => Err(bad_config(format!(
                "mrope_section is {section}, and not three parts of the {pairs} pairs of a head"
            ))),
        }
    }

    /// The axis of each pair: in turns, as far as the sections of height and width go, and time for what is left.
    pub(super) fn axes(self) -> Vec<Axis> {
        let axis = |pair: usize| match pair % 3 {
            1 if pair / 3 < self.height => Axis::Height,
            2 if pair / 3 < self.width => Axis::Width,
            _ => Axis::Time,
        };
        (0..self.pairs).map(axis).collect()
    }
}

/// The places of the tokens from `from` up to `to`. `areas` are all images of the sequence, in their order, and none of them is
/// empty. No coordinate is larger than the token's own number.
pub(super) fn places(areas: &[Area], from: usize, to: usize) -> Vec<Place> {
    let mut places = Vec::with_capacity(to.saturating_sub(from));
    // How many places fewer than tokens there are before an image.
    let mut saved = 0;
    let mut at = from;
    for area in areas {
        let text = at..to.min(area.at);
        at = at.max(text.end);
        places.extend(text.map(|token| [(token - saved) as u32; 3]));
        let start = area.at - saved;
        for token in at..to.min(area.end()) {
            let (row, column) =
                ((token - area.at) / area.extent.columns, (token - area.at) % area.extent.columns);
            places.push([start, start + row, start + column].map(|place| place as u32));
        }
        at = at.max(to.min(area.end()));
        saved += area.extent.tokens() - area.extent.rows.max(area.extent.columns);
    }
    places.extend((at..to).map(|token| [(token - saved) as u32; 3]));
    places
}
