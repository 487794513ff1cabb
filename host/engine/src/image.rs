//! Images to what a vision tower reads, as the model's preprocessor_config.json says.

mod fit;
mod keys;
#[cfg(test)]
mod tests;

use ::image::{DynamicImage, Rgb, RgbImage, imageops::FilterType};
use candle_core::{Device, Tensor};
use serde_json::Value;

use self::fit::Fit;
use crate::error::{EngineError, LoadError};

const FILE: &str = "preprocessor_config.json";
/// For a CLIP tower, whose model says nothing.
const CLIP: Defaults = Defaults {
    square: false,
    crop: true,
    mean: [0.481_454_67, 0.457_827_5, 0.408_210_72],
    std: [0.268_629_55, 0.261_302_6, 0.275_777_1],
};
/// For a SigLIP tower: the whole image becomes a square, whatever its shape.
const SIGLIP: Defaults = Defaults { square: true, crop: false, mean: [0.5; 3], std: [0.5; 3] };
/// A picture whose sides differ by more would become millions of pixels wide before it is cropped.
const MAX_ASPECT: u32 = 64;

/// How one model wants its images. Sizes are in pixels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Preprocess {
    resize: Option<Resize>,
    filter: FilterType,
    crop: Option<Size>,
    /// What a byte is multiplied by.
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    height: u32,
    width: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resize {
    Exact(Size),
    /// The shorter side gets this long, the other one keeps the proportions.
    ShortestEdge(u32),
    /// Any size, within bounds.
    Fit(Fit),
}

/// What is done where preprocessor_config.json says nothing.
#[derive(Clone, Copy)]
struct Defaults {
    /// Resized to a square, or else by its shorter side.
    square: bool,
    crop: bool,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Preprocess {
    /// Reads preprocessor_config.json (nothing: what CLIP does), for a tower that takes squares of `side` pixels.
    pub(crate) fn new(config: Option<&Value>, side: u32) -> Result<Self, LoadError> {
        Self::read(config, side, CLIP)
    }

    /// As [`Self::new`], but where the file says nothing, what SigLIP does.
    pub(crate) fn siglip(config: Option<&Value>, side: u32) -> Result<Self, LoadError> {
        Self::read(config, side, SIGLIP)
    }

    /// For a tower that takes images of any size, made of squares of `square` pixels a side: what transformers'
    /// `Qwen2VLImageProcessor` makes of them. It neither crops nor pads.
    pub(crate) fn any_size(config: &Value, square: u32) -> Result<Self, LoadError> {
        parse_any_size(config, square)
            .map_err(|reason| LoadError::Config { file: FILE.to_owned(), reason })
    }

    /// With no more squares than these. What makes images of one size is left as it is.
    pub(crate) fn limited(self, squares: usize) -> Self {
        match self.resize {
            Some(Resize::Fit(fit)) => {
                Self { resize: Some(Resize::Fit(fit.limited(squares))), ..self }
            }
            _ => self,
        }
    }

    fn read(config: Option<&Value>, side: u32, tower: Defaults) -> Result<Self, LoadError> {
        let nothing = Value::Null;
        let config = config.unwrap_or(&nothing);
        // A file that names its processor leaves out what that one does, whatever the tower.
        let defaults = match config.get("image_processor_type").and_then(Value::as_str) {
            Some("CLIPImageProcessor" | "CLIPImageProcessorFast") => CLIP,
            Some("SiglipImageProcessor" | "SiglipImageProcessorFast") => SIGLIP,
            _ => tower,
        };
        let preprocess = keys::check(config, &keys::ONE_SIZE)
            .and_then(|()| parse(config, side, defaults))
            .map_err(|reason| LoadError::Config { file: FILE.to_owned(), reason })?;
        let made = preprocess.crop.or(match preprocess.resize {
            Some(Resize::Exact(size)) => Some(size),
            _ => None,
        });
        if made != Some(Size { height: side, width: side }) {
            return Err(LoadError::Config {
                file: FILE.to_owned(),
                reason: format!("it does not make images of {side} x {side}, the model's size"),
            });
        }
        Ok(preprocess)
    }

    /// Width and height of what [`Self::fit`] makes of an image of these.
    pub(crate) fn size(&self, width: u32, height: u32) -> Result<(u32, u32), EngineError> {
        let resized = self.resized(width, height)?;
        let size = self.crop.unwrap_or(resized);
        Ok((size.width, size.height))
    }

    /// An image in the size that the model takes.
    pub(crate) fn fit(&self, image: &DynamicImage) -> Result<RgbImage, EngineError> {
        let resized = self.resized(image.width(), image.height())?;
        // Transparency is dropped, as Pillow's convert("RGB") drops it.
        let mut pixels = image.to_rgb8();
        if (resized.width, resized.height) != pixels.dimensions() {
            pixels = ::image::imageops::resize(&pixels, resized.width, resized.height, self.filter);
        }
        Ok(match self.crop {
            Some(size) => middle(&pixels, size),
            None => pixels,
        })
    }

    /// The numbers of what [`Self::fit`] made: `f32` of shape (3, height, width), on the CPU.
    pub(crate) fn tensor(&self, pixels: &RgbImage) -> Result<Tensor, EngineError> {
        let (width, height) = (pixels.width() as usize, pixels.height() as usize);
        let mut values = Vec::with_capacity(3 * width * height);
        for channel in 0..3 {
            let (mean, std) = (self.mean[channel], self.std[channel]);
            let value = |pixel: &Rgb<u8>| (f32::from(pixel.0[channel]) * self.scale - mean) / std;
            values.extend(pixels.pixels().map(value));
        }
        Ok(Tensor::from_vec(values, (3, height, width), &Device::Cpu)?)
    }

    /// Both.
    #[cfg(test)]
    pub(crate) fn apply(&self, image: &DynamicImage) -> Result<Tensor, EngineError> {
        self.tensor(&self.fit(image)?)
    }

    /// The size of an image before it is cropped.
    fn resized(&self, width: u32, height: u32) -> Result<Size, EngineError> {
        let (short, long) = (width.min(height), width.max(height));
        if short == 0 {
            return Err(EngineError::BadImage("it has no pixels".into()));
        }
        let most = match self.resize {
            Some(Resize::Fit(_)) => fit::MAX_ASPECT,
            _ => MAX_ASPECT,
        };
        if u64::from(long) > u64::from(most) * u64::from(short) {
            return Err(EngineError::BadImage(format!(
                "one side of {width} x {height} is more than {most} times the other"
            )));
        }
        Ok(self.resize.map_or(Size { height, width }, |resize| resize.of(width, height)))
    }
}

impl Resize {
    /// The size of an image of this size afterwards.
    fn of(self, width: u32, height: u32) -> Size {
        match self {
            Self::Exact(size) => size,
            Self::ShortestEdge(edge) => {
                let (short, long) = (width.min(height), width.max(height));
                let other = u64::from(edge) * u64::from(long) / u64::from(short);
                // At most MAX_ASPECT times the edge, which is itself limited.
                let other = u32::try_from(other).unwrap_or(u32::MAX);
                if width <= height {
                    Size { width: edge, height: other }
                } else {
                    Size { width: other, height: edge }
                }
            }
            Self::Fit(fit) => {
                let (width, height) = fit.of(width, height);
                Size { height, width }
            }
        }
    }
}

/// The middle of `pixels`, black where they end.
fn middle(pixels: &RgbImage, size: Size) -> RgbImage {
    let left = margin(pixels.width(), size.width);
    let top = margin(pixels.height(), size.height);
    let at = |x: u32, y: u32| {
        let x = u32::try_from(i64::from(x) + left).ok()?;
        let y = u32::try_from(i64::from(y) + top).ok()?;
        pixels.get_pixel_checked(x, y).copied()
    };
    RgbImage::from_fn(size.width, size.height, |x, y| at(x, y).unwrap_or(Rgb([0; 3])))
}

/// Where the middle `wanted` of `found` begin: before the first pixel where there are too few.
fn margin(found: u32, wanted: u32) -> i64 {
    (i64::from(found) - i64::from(wanted)).div_euclid(2)
}

fn parse(config: &Value, side: u32, defaults: Defaults) -> Result<Preprocess, String> {
    let flag = |key: &str, default: bool| flag(config, key, default);
    if flag("do_pad", false) {
        return Err("do_pad is not supported".into());
    }
    let resize = match (flag("do_resize", true), config.get("size")) {
        (false, _) => None,
        (true, None | Some(Value::Null)) if defaults.square => {
            Some(Resize::Exact(Size { height: side, width: side }))
        }
        (true, None | Some(Value::Null)) => Some(Resize::ShortestEdge(side)),
        (true, Some(size)) => Some(resize(size)?),
    };
    let crop = match (flag("do_center_crop", defaults.crop), config.get("crop_size")) {
        (false, _) => None,
        (true, None | Some(Value::Null)) => Some(Size { height: side, width: side }),
        (true, Some(crop)) => Some(size(crop).ok_or("crop_size is no size")?),
    };
    let (scale, mean, std) = colours(config, defaults)?;
    Ok(Preprocess { resize, filter: filter(config.get("resample"))?, crop, scale, mean, std })
}

fn parse_any_size(config: &Value, square: u32) -> Result<Preprocess, String> {
    keys::check(config, &keys::ANY_SIZE)?;
    for (key, wanted) in [("do_resize", true), ("do_pad", false), ("do_center_crop", false)] {
        if flag(config, key, wanted) != wanted {
            return Err(format!("{key} is {}, which the tower cannot have", !wanted));
        }
    }
    let resize = Some(Resize::Fit(Fit::read(config, square)?));
    let (scale, mean, std) = colours(config, CLIP)?;
    let filter = filter(config.get("resample"))?;
    Ok(Preprocess { resize, filter, crop: None, scale, mean, std })
}

fn flag(config: &Value, key: &str, default: bool) -> bool {
    config.get(key).and_then(Value::as_bool).unwrap_or(default)
}

/// What bytes are multiplied by, and then the mean and the deviation of each colour.
fn colours(config: &Value, defaults: Defaults) -> Result<(f32, [f32; 3], [f32; 3]), String> {
    let scale = match config.get("rescale_factor").and_then(Value::as_f64) {
        _ if !flag(config, "do_rescale", true) => 1.0,
        Some(factor) => factor as f32,
        None => 1.0 / 255.0,
    };
    let (mean, std) = if flag(config, "do_normalize", true) {
        (three(config, "image_mean", defaults.mean)?, three(config, "image_std", defaults.std)?)
    } else {
        ([0.0; 3], [1.0; 3])
    };
    if std.contains(&0.0) {
        return Err("image_std holds a zero".into());
    }
    Ok((scale, mean, std))
}

/// `{"height": 64, "width": 64}`, `{"shortest_edge": 336}` or the older `336`.
fn resize(value: &Value) -> Result<Resize, String> {
    if let Some(size) = value.as_object().and_then(|_| size(value)) {
        return Ok(Resize::Exact(size));
    }
    let edge = value.get("shortest_edge").unwrap_or(value);
    pixels(edge).map(Resize::ShortestEdge).ok_or_else(|| format!("size {value} is not supported"))
}

fn size(value: &Value) -> Option<Size> {
    if let Some(side) = pixels(value) {
        return Some(Size { height: side, width: side });
    }
    Some(Size { height: pixels(value.get("height")?)?, width: pixels(value.get("width")?)? })
}

/// A side. No tower takes images anywhere near the limit.
fn pixels(value: &Value) -> Option<u32> {
    value
        .as_u64()
        .filter(|side| (1..=8192).contains(side))
        .and_then(|side| u32::try_from(side).ok())
}

fn three(config: &Value, key: &str, default: [f32; 3]) -> Result<[f32; 3], String> {
    let Some(values) = config.get(key).filter(|it| !it.is_null()) else { return Ok(default) };
    let number = |value: &Value| value.as_f64().map(|number| number as f32);
    let values: Option<Vec<f32>> =
        values.as_array().and_then(|values| values.iter().map(number).collect());
    values
        .and_then(|values| values.try_into().ok())
        .ok_or_else(|| format!("{key} is not three numbers"))
}

/// Pillow's numbers.
fn filter(value: Option<&Value>) -> Result<FilterType, String> {
    let Some(value) = value.filter(|it| !it.is_null()) else { return Ok(FilterType::CatmullRom) };
    match value.as_u64() {
        Some(0) => Ok(FilterType::Nearest),
        Some(1) => Ok(FilterType::Lanczos3),
        Some(2) => Ok(FilterType::Triangle),
        Some(3) => Ok(FilterType::CatmullRom),
        _ => Err(format!("resample {value} is not supported")),
    }
}
