//! From what a client sends (base64, a data URL, a raw body) to pixels, and the facts about the image that the log shows.
//!
//! Nothing is decoded before the header was read and found within the limits: 400 kB can claim 400 million pixels. Error
//! texts hold offsets and sizes, never a piece of the data.

mod mode;
mod remote;

use std::{fmt, io, io::Cursor, sync::Arc, time::Instant};

use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use base64::{
    DecodeError, Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use tokio::sync::Semaphore;

use crate::Limits;

/// Padding may be left out, and stray bits in the last symbol don't matter: decoders of other servers take both.
static BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// An image as it came.
pub(crate) enum Encoded {
    /// Base64 without the head of a data URL.
    Base64(String),
    Raw(Vec<u8>),
    /// Where it is, on a host that is allowed.
    Remote(String),
}

/// Sizes only: whoever prints a request for debugging must not print an image.
impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base64(text) => write!(f, "Base64({} bytes)", text.len()),
            Self::Raw(bytes) => write!(f, "Raw({} bytes)", bytes.len()),
            Self::Remote(_) => f.write_str("Remote(..)"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) image: DynamicImage,
    pub(crate) facts: ImageFacts,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImageFacts {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Pillow's name.
    pub(crate) mode: &'static str,
    /// Pillow's name.
    pub(crate) format: &'static str,
    /// None for a raw body.
    pub(crate) base64_chars: Option<usize>,
    /// Size of the file.
    pub(crate) bytes: usize,
    pub(crate) decode_ms: f64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("remote images are not fetched: send the image itself as data:image/png;base64,…")]
    Remote,
    #[error(
        "images are not fetched from this host: send the image itself as data:image/png;base64,…"
    )]
    OtherHost,
    #[error("the image could not be fetched: {0}")]
    NotFetched(String),
    #[error("the data url has no ;base64, part: write data:image/png;base64,…")]
    NotBase64Url,
    #[error("not base64 at byte {at}")]
    NotBase64 { at: usize },
    #[error("the base64 breaks off after {chars} characters")]
    Base64Cut { chars: usize },
    #[error("the image is empty")]
    Empty,
    #[error("the image has {bytes} bytes, over the limit of {limit}: send a smaller one")]
    TooLarge { bytes: usize, limit: usize },
    #[error("unknown image format: send png, jpeg, gif, webp, bmp or tiff")]
    UnknownFormat,
    #[error("the image has {width}x{height} pixels, over the limit of {limit}: send a smaller one")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error("the image needs more than {limit} bytes of memory to decode: send a smaller one")]
    TooMuchMemory { limit: u64 },
    #[error("the {format} file is truncated")]
    Truncated { format: &'static str },
    #[error("the {format} file can't be decoded: {reason}")]
    Undecodable { format: &'static str, reason: String },
    #[error("the image can't be decoded: its decoder gave up")]
    DecoderPanicked,
    #[error("the image was not decoded: the server is shutting down")]
    Stopped,
}

impl ImageError {
    /// `error.type` of the log.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Remote | Self::OtherHost => "image_remote",
            Self::NotFetched(_) => "image_not_fetched",
            Self::NotBase64Url | Self::NotBase64 { .. } | Self::Base64Cut { .. } => {
                "image_not_base64"
            }
            Self::Empty => "image_empty",
            Self::TooLarge { .. } | Self::TooManyPixels { .. } | Self::TooMuchMemory { .. } => {
                "image_too_large"
            }
            Self::UnknownFormat => "image_unknown_format",
            Self::Truncated { .. } => "image_truncated",
            Self::Undecodable { .. } | Self::DecoderPanicked => "image_undecodable",
            Self::Stopped => "image_not_decoded",
        }
    }

    fn from_decoder(error: ::image::ImageError, format: &'static str, limits: &Limits) -> Self {
        match error {
            ::image::ImageError::Limits(_) => Self::TooMuchMemory { limit: limits.image_alloc },
            ::image::ImageError::IoError(it) if it.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Truncated { format }
            }
            other => Self::Undecodable { format, reason: other.to_string() },
        }
    }
}

impl Encoded {
    /// The `url` of a content part: a data URL, or one of a host that images may be fetched from.
    pub(crate) fn from_url(text: String, limits: &Limits) -> Result<Self, ImageError> {
        match text.get(..5) {
            Some(scheme) if scheme.eq_ignore_ascii_case("data:") => {}
            _ => return remote::check(&text, &limits.image_hosts).map(|()| Self::Remote(text)),
        }
        let comma = text.find(',').ok_or(ImageError::NotBase64Url)?;
        if !text[..comma].to_ascii_lowercase().ends_with(";base64") {
            return Err(ImageError::NotBase64Url);
        }
        Ok(Self::Base64(text[comma + 1..].to_owned()))
    }

    /// Base64 as such, or a data URL.
    pub(crate) fn from_text(text: String, limits: &Limits) -> Result<Self, ImageError> {
        // No base64 holds a colon, so this is a URL of some kind.
        let is_url = text.bytes().take(16).any(|it| it == b':');
        if is_url { Self::from_url(text, limits) } else { Ok(Self::Base64(text)) }
    }

    fn into_bytes(self, limits: &Limits) -> Result<(Vec<u8>, Option<usize>), ImageError> {
        let (bytes, base64_chars) = match self {
            Self::Raw(bytes) => (bytes, None),
            // Fetched before it comes here.
            Self::Remote(_) => return Err(ImageError::Remote),
            Self::Base64(text) => {
                let text = without_space(text)?;
                check_size(decoded_size(&text), limits)?;
                let chars = text.len();
                (from_base64(&text)?, Some(chars))
            }
        };
        check_size(bytes.len(), limits)?;
        if bytes.is_empty() { Err(ImageError::Empty) } else { Ok((bytes, base64_chars)) }
    }
}

fn check_size(bytes: usize, limits: &Limits) -> Result<(), ImageError> {
    let limit = limits.image_bytes;
    if bytes > limit { Err(ImageError::TooLarge { bytes, limit }) } else { Ok(()) }
}

/// Line ends and spaces are common: `base64` of coreutils writes lines of 76 characters.
fn without_space(text: String) -> Result<String, ImageError> {
    let is_symbol = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'/' | b'=');
    let bytes = text.as_bytes();
    match bytes.iter().position(|it| !is_symbol(*it)) {
        None => Ok(text),
        Some(first) => {
            match bytes[first..].iter().position(|it| !is_symbol(*it) && !it.is_ascii_whitespace())
            {
                Some(at) => Err(ImageError::NotBase64 { at: first + at }),
                None => Ok(text.split_ascii_whitespace().collect()),
            }
        }
    }
}

/// `chars * 3 / 4 - padding`: arithmetic, no decoding.
fn decoded_size(base64: &str) -> usize {
    let symbols = base64.trim_end_matches('=').len();
    symbols / 4 * 3 + (symbols % 4 * 3) / 4
}

fn from_base64(text: &str) -> Result<Vec<u8>, ImageError> {
    BASE64.decode(text).map_err(|error| match error {
        DecodeError::InvalidByte(at, _) => ImageError::NotBase64 { at },
        DecodeError::InvalidLastSymbol { offset, .. } => ImageError::NotBase64 { at: offset },
        _ => ImageError::Base64Cut { chars: text.len() },
    })
}

/// Fetches what is elsewhere, on a thread that may block; the rest is as it was.
pub(crate) async fn fetch_aside(
    encoded: Encoded,
    limits: &Limits,
    permits: &Arc<Semaphore>,
) -> Result<Encoded, ImageError> {
    let Encoded::Remote(url) = encoded else { return Ok(encoded) };
    let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| ImageError::Stopped)?;
    let limits = limits.clone();
    let work = move || {
        let _permit = permit;
        remote::fetch(&url, &limits, remote::is_public)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(bytes) => bytes.map(Encoded::Raw),
        Err(_) => Err(ImageError::Stopped),
    }
}

/// Decodes on a thread that may block; few at a time, since each may take hundreds of megabytes.
pub(crate) async fn decode_aside(
    encoded: Encoded,
    limits: &Limits,
    permits: &Arc<Semaphore>,
) -> Result<Decoded, ImageError> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| ImageError::Stopped)?;
    let limits = limits.clone();
    let work = move || {
        // Held until the work is over, also when the client left and nobody waits for it.
        let _permit = permit;
        decode(encoded, &limits)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(decoded) => decoded,
        Err(error) if error.is_panic() => Err(ImageError::DecoderPanicked),
        Err(_) => Err(ImageError::Stopped),
    }
}

/// The facts of an image that somebody else will decode: its header is read and nothing more.
pub(crate) async fn inspect_aside(
    encoded: Encoded,
    limits: &Limits,
    permits: &Arc<Semaphore>,
) -> Result<ImageFacts, ImageError> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| ImageError::Stopped)?;
    let limits = limits.clone();
    let work = move || {
        let _permit = permit;
        let started = Instant::now();
        let (bytes, base64_chars) = encoded.into_bytes(&limits)?;
        open(&bytes, &limits).map(|(_, facts)| ImageFacts {
            base64_chars,
            decode_ms: started.elapsed().as_secs_f64() * 1e3,
            ..facts
        })
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(facts) => facts,
        Err(error) if error.is_panic() => Err(ImageError::DecoderPanicked),
        Err(_) => Err(ImageError::Stopped),
    }
}

fn decode(encoded: Encoded, limits: &Limits) -> Result<Decoded, ImageError> {
    let started = Instant::now();
    let (bytes, base64_chars) = encoded.into_bytes(limits)?;
    let (decoder, facts) = open(&bytes, limits)?;
    let image = DynamicImage::from_decoder(decoder)
        .map_err(|it| ImageError::from_decoder(it, facts.format, limits))?;
    let decode_ms = started.elapsed().as_secs_f64() * 1e3;
    Ok(Decoded { image, facts: ImageFacts { base64_chars, decode_ms, ..facts } })
}

/// Reads the header, and checks what it claims against the limits.
fn open<'a>(
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<(impl ImageDecoder + use<'a>, ImageFacts), ImageError> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|_| ImageError::UnknownFormat)?;
    let kind = reader.format().ok_or(ImageError::UnknownFormat)?;
    let format = format_name(kind).ok_or(ImageError::UnknownFormat)?;

    let mut allowed = ::image::Limits::no_limits();
    allowed.max_alloc = Some(limits.image_alloc);
    reader.limits(allowed);
    let decoder =
        reader.into_decoder().map_err(|it| ImageError::from_decoder(it, format, limits))?;

    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.image_pixels {
        return Err(ImageError::TooManyPixels { width, height, limit: limits.image_pixels });
    }
    if decoder.total_bytes() > limits.image_alloc {
        return Err(ImageError::TooMuchMemory { limit: limits.image_alloc });
    }
    // The decoder of this format fills what is missing with grey and says nothing.
    if kind == ImageFormat::Jpeg && mode::jpeg_is_cut(bytes) {
        return Err(ImageError::Truncated { format });
    }
    let mode = mode::of(kind, bytes, decoder.original_color_type());
    let facts = ImageFacts {
        width,
        height,
        mode,
        format,
        base64_chars: None,
        bytes: bytes.len(),
        decode_ms: 0.0,
    };
    Ok((decoder, facts))
}

/// Pillow's name of a format that this build can decode.
fn format_name(format: ImageFormat) -> Option<&'static str> {
    Some(match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Gif => "GIF",
        ImageFormat::WebP => "WEBP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Tiff => "TIFF",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
