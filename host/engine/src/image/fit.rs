//! The size that an image gets for a tower that takes any: whole squares, and a number of pixels within bounds.

use serde_json::Value;

/// One side may be so many times the other, as in transformers.
pub(super) const MAX_ASPECT: u32 = 200;

/// Nothing larger is made, whatever preprocessor_config.json says: 800 MB of floats.
const MAX_PIXELS: u64 = 1 << 26;
/// What transformers' `Qwen2VLImageProcessor` takes where a file says nothing.
const LEAST: u64 = 56 * 56;
const MOST: u64 = 28 * 28 * 1280;

/// How a size is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// The side of a square, in pixels.
    square: u32,
    least: u64,
    most: u64,
}

impl Fit {
    /// Bounds are `size.shortest_edge` and `size.longest_edge`, which count pixels in spite of their names, or `min_pixels` and
    /// `max_pixels` as older files have them.
    pub(super) fn read(config: &Value, square: u32) -> Result<Self, String> {
        let given = |key: &str| config.get(key).filter(|value| !value.is_null());
        let size = given("size");
        if let Some(size) = size {
            let Some(keys) = size.as_object() else {
                return Err(format!("size {size} is not supported"));
            };
            let bounds = ["shortest_edge", "longest_edge"];
            let mut others = keys.iter().filter(|it| !bounds.contains(&it.0.as_str()));
            if let Some((key, _)) = others.find(|it| !it.1.is_null()) {
                return Err(format!("size with {key} is not supported"));
            }
        }
        let bound = |old: &str, key: &str, default: u64| {
            let Some(value) = given(old).or_else(|| size?.get(key)) else {
                return match size {
                    None => Ok(default),
                    Some(size) => Err(format!("size {size} has no {key}")),
                };
            };
            value
                .as_u64()
                .filter(|pixels| (1..=MAX_PIXELS).contains(pixels))
                .ok_or_else(|| format!("{key} is {value}, and not 1 to {MAX_PIXELS} pixels"))
        };
        let least = bound("min_pixels", "shortest_edge", LEAST)?;
        let most = bound("max_pixels", "longest_edge", MOST)?;
        if least > most {
            return Err(format!("size asks for {least} pixels at least and {most} at most"));
        }
        if square == 0 {
            return Err("the tower has no patches".to_owned());
        }
        Ok(Self { square, least, most })
    }

    /// With so many squares at most, as if `max_pixels` said so. Down to 200 of them, no image is too thin for it.
    pub(super) fn limited(self, squares: usize) -> Self {
        let square = u64::from(self.square).pow(2);
        let most = u64::try_from(squares.max(1)).unwrap_or(u64::MAX).saturating_mul(square);
        if most >= self.most {
            return self;
        }
        // Small images are stretched to whole squares, which must not be too many.
        Self { most, least: self.least.min((most / 4).max(1)), ..self }
    }

    /// Width and height for an image of these, neither of them 0: the nearest whole squares; or where that is too much or too
    /// little, the same proportions at the bound, by `smart_resize` of transformers. Halves go to the even number, as in Python.
    pub(super) fn of(self, width: u32, height: u32) -> (u32, u32) {
        let square = f64::from(self.square);
        let (least, most) = (self.least as f64, self.most as f64);
        let (width, height) = (f64::from(width), f64::from(height));
        let nearest = |side: f64| (side / square).round_ties_even() * square;
        let pixels = nearest(width) * nearest(height);
        let (width, height) = if pixels > most {
            let shrink = (width * height / most).sqrt();
            let fewer = |side: f64| ((side / shrink / square).floor() * square).max(square);
            (fewer(width), fewer(height))
        } else if pixels < least {
            let stretch = (least / (width * height)).sqrt();
            let more = |side: f64| (side * stretch / square).ceil() * square;
            (more(width), more(height))
        } else {
            (nearest(width), nearest(height))
        };
        (width as u32, height as u32)
    }
}
