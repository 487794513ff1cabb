//! Where a text is cut.
//!
//! Only what stays is walked over, and grapheme clusters are looked for at the cut only, so a text of a megabyte costs what
//! its limit costs.

use std::ops::Range;

use unicode_segmentation::GraphemeCursor;

use crate::Keep;

/// The part to be taken out so that at most `limit` characters stay; none when the text is short enough.
pub fn range(text: &str, limit: usize, keep: Keep) -> Option<Range<usize>> {
    // No character is shorter than a byte.
    if text.len() <= limit {
        return None;
    }
    let whole = nth_character(text, limit).filter(|it| *it < text.len())?;
    match keep {
        Keep::Head => Some(boundary_before(text, whole)..text.len()),
        Keep::HeadTail => {
            let tail = limit / 3;
            let head = nth_character(text, limit - tail)?;
            let start = boundary_before(text, head);
            let end = boundary_after(text, nth_character_back(text, tail));
            // More than `limit` characters lie between the two places, so the first stays in front of the second.
            Some(start..end)
        }
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// Where the character with this number starts, or the end of the text when it has exactly so many.
fn nth_character(text: &str, number: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut left = number;
    let mut at = 0;
    while let Some((word, _)) = bytes.get(at..).and_then(|it| it.split_first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        // Bytes that begin a character: all but those of the form 10xxxxxx.
        let inside = (word >> 7) & !(word >> 6) & ONES;
        let starts = 8 - inside.count_ones() as usize;
        if starts > left {
            break;
        }
        left -= starts;
        at += 8;
    }
    for (offset, byte) in bytes.get(at..)?.iter().enumerate() {
        if is_start(*byte) {
            if left == 0 {
                return Some(at + offset);
            }
            left -= 1;
        }
    }
    (left == 0).then_some(bytes.len())
}

/// Where the last `number` characters start.
fn nth_character_back(text: &str, number: usize) -> usize {
    if number == 0 {
        return text.len();
    }
    let starts = text.bytes().enumerate().rev().filter(|(_, it)| is_start(*it));
    starts.map(|(at, _)| at).nth(number - 1).unwrap_or_default()
}

fn is_start(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

/// The last boundary between grapheme clusters that is not behind this place.
fn boundary_before(text: &str, at: usize) -> usize {
    let mut cursor = GraphemeCursor::new(at, text.len(), true);
    match cursor.is_boundary(text, 0) {
        Ok(true) => at,
        // The whole text is given, so the cursor never asks for more of it.
        _ => cursor.prev_boundary(text, 0).ok().flatten().unwrap_or_default(),
    }
}

/// The first boundary between grapheme clusters that is not before this place.
fn boundary_after(text: &str, at: usize) -> usize {
    let mut cursor = GraphemeCursor::new(at, text.len(), true);
    match cursor.is_boundary(text, 0) {
        Ok(true) => at,
        _ => cursor.next_boundary(text, 0).ok().flatten().unwrap_or(text.len()),
    }
}
