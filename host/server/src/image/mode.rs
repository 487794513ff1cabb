//! Pillow's name for how a file stores its pixels: what people who debug a vision model know as `image.mode`.
//!
//! The decoders tell what they decode *to*, and expand palettes and CMYK on the way; so the file's own header is read.
//! Headers come from strangers: every access is checked, and what can't be read falls back to the decoder's word.

use ::image::{ExtendedColorType, ImageFormat};

pub(super) fn of(format: ImageFormat, file: &[u8], decoder: ExtendedColorType) -> &'static str {
    let from_header = match format {
        ImageFormat::Png => png(file),
        ImageFormat::Jpeg => jpeg(file),
        ImageFormat::Gif => gif(file),
        ImageFormat::Bmp => bmp(file),
        _ => None,
    };
    from_header.unwrap_or_else(|| color(decoder))
}

fn color(color: ExtendedColorType) -> &'static str {
    use ExtendedColorType as C;
    match color {
        C::L1 => "1",
        C::A8 | C::L2 | C::L4 | C::L8 => "L",
        C::L16 => "I;16",
        C::La1 | C::La2 | C::La4 | C::La8 | C::La16 => "LA",
        C::Rgba1 | C::Rgba2 | C::Rgba4 | C::Rgba8 | C::Rgba16 | C::Bgra8 | C::Rgba32F => "RGBA",
        C::Cmyk8 | C::Cmyk16 => "CMYK",
        C::Unknown(_) => "P",
        _ => "RGB",
    }
}

/// IHDR is always first: bit depth at byte 24, colour type at 25.
fn png(file: &[u8]) -> Option<&'static str> {
    if file.get(12..16)? != b"IHDR" {
        return None;
    }
    Some(match (*file.get(24)?, *file.get(25)?) {
        (1, 0) => "1",
        (16, 0) => "I;16",
        (_, 0) => "L",
        (_, 2) => "RGB",
        (_, 3) => "P",
        (8, 4) => "LA",
        // Pillow has no LA of 16 bits.
        (_, 4 | 6) => "RGBA",
        _ => return None,
    })
}

fn jpeg(file: &[u8]) -> Option<&'static str> {
    let frame = jpeg_frame(file)?;
    // Length (2), precision (1), height (2), width (2), components.
    Some(match file.get(frame + 7)? {
        1 => "L",
        3 => "RGB",
        4 => "CMYK",
        _ => return None,
    })
}

/// Where the payload of the frame header (SOF) starts.
fn jpeg_frame(file: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        if *file.get(at)? != 0xFF {
            return None;
        }
        // Any number of 0xFF may stand before a marker.
        while *file.get(at)? == 0xFF {
            at += 1;
        }
        let marker = *file.get(at)?;
        at += 1;
        match marker {
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF => return Some(at),
            // Markers that stand alone.
            0x01 | 0xD0..=0xD8 => continue,
            // The image data starts, or ends, and no frame header was seen.
            0xD9 | 0xDA => return None,
            _ => {}
        }
        let length = u16::from_be_bytes([*file.get(at)?, *file.get(at + 1)?]);
        at += usize::from(length);
    }
}

/// Whether no end marker follows the frame header. (One before it may belong to a thumbnail.)
pub(super) fn jpeg_is_cut(file: &[u8]) -> bool {
    let data = jpeg_frame(file).and_then(|at| file.get(at..)).unwrap_or_default();
    !data.windows(2).any(|it| it == [0xFF, 0xD9])
}

/// The palette of the first frame: its own, else the file's. Pillow calls an image with a palette of plain greys `L`.
fn gif(file: &[u8]) -> Option<&'static str> {
    let mut at = 13;
    let mut palette = gif_palette(file, *file.get(10)?, at)?;
    at += palette.len();
    loop {
        match *file.get(at)? {
            // Extension: a label, then blocks that end with an empty one.
            0x21 => {
                at += 2;
                loop {
                    let length = usize::from(*file.get(at)?);
                    at += 1 + length;
                    if length == 0 {
                        break;
                    }
                }
            }
            0x2C => {
                let own = gif_palette(file, *file.get(at + 9)?, at + 10)?;
                if !own.is_empty() {
                    palette = own;
                }
                break;
            }
            _ => return None,
        }
    }
    let is_grey =
        palette.chunks_exact(3).enumerate().all(|(i, it)| it.iter().all(|c| usize::from(*c) == i));
    Some(if is_grey { "L" } else { "P" })
}

fn gif_palette(file: &[u8], flags: u8, at: usize) -> Option<&[u8]> {
    let size = if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    file.get(at..at + size)
}

fn bmp(file: &[u8]) -> Option<&'static str> {
    let number = |at: usize| {
        let bytes = file.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let header = number(14)?;
    // The oldest header has 12 bytes and palette entries of 3.
    let (bits_at, entry) = if header == 12 { (24, 3) } else { (28, 4) };
    let bits = u16::from_le_bytes([*file.get(bits_at)?, *file.get(bits_at + 1)?]);
    if bits > 8 {
        return None;
    }
    let used = if header == 12 { 0 } else { number(46)? };
    let colors = match used {
        1..=256 => used as usize,
        _ => 1_usize << bits,
    };
    let start = 14 + usize::try_from(header).ok()?;
    let palette = file.get(start..start.checked_add(colors * entry)?)?;
    let is_grey = palette.chunks_exact(entry).enumerate().all(|(i, it)| {
        let level = if colors == 2 { i * 255 } else { i };
        it.iter().take(3).all(|c| usize::from(*c) == level)
    });
    Some(match (is_grey, colors) {
        (true, 2) => "1",
        (true, _) => "L",
        (false, _) => "P",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_header_gives_pillows_mode() {
        let check = |depth: u8, color: u8, mode: Option<&str>| {
            let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01".to_vec();
            file.extend([depth, color]);
            assert_eq!(png(&file), mode, "{depth} {color}");
        };
        check(1, 0, Some("1"));
        check(2, 0, Some("L"));
        check(8, 0, Some("L"));
        check(16, 0, Some("I;16"));
        check(8, 2, Some("RGB"));
        check(16, 2, Some("RGB"));
        check(4, 3, Some("P"));
        check(8, 4, Some("LA"));
        check(8, 6, Some("RGBA"));
        check(8, 9, None);
        assert_eq!(png(b"\x89PNG"), None);
    }

    #[test]
    fn a_jpeg_frame_gives_pillows_mode_and_its_end_is_looked_for_behind_it() {
        let file = |components: u8, end: &[u8]| {
            let mut file =
                vec![0xFF, 0xD8, 0xFF, 0xE1, 0, 4, 0xFF, 0xD9, 0xFF, 0xFF, 0xC2, 0, 8, 8];
            file.extend([0, 1, 0, 1, components, 0]);
            file.extend(end);
            file
        };
        let check = |components: u8, mode: Option<&str>| {
            assert_eq!(jpeg(&file(components, &[])), mode, "{components}");
        };
        check(1, Some("L"));
        check(3, Some("RGB"));
        check(4, Some("CMYK"));
        check(2, None);
        assert!(jpeg_is_cut(&file(3, &[])));
        assert!(!jpeg_is_cut(&file(3, &[0xFF, 0xD9])));
        assert!(jpeg_is_cut(&[]));
    }

    #[test]
    fn a_bmp_palette_of_greys_is_no_palette() {
        let check = |bits: u8, palette: &[[u8; 4]], mode: Option<&str>| {
            let mut file = vec![0; 54];
            (file[14], file[28], file[46]) = (40, bits, palette.len() as u8);
            file.extend(palette.iter().flatten());
            assert_eq!(bmp(&file), mode, "{bits}");
        };
        check(1, &[[0, 0, 0, 0], [255, 255, 255, 0]], Some("1"));
        check(4, &[[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 2, 0]], Some("L"));
        check(8, &[[0, 0, 0, 0], [1, 2, 1, 0]], Some("P"));
        check(24, &[], None);
    }
}
