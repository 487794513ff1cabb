//! Full-width forms (`０１０－１２３４－５６７８`, `ｋｉｍ＠ｅｘａｍｐｌｅ．ｃｏｍ`), as Korean and Japanese keyboards write them, read as ASCII.

/// A text with its full-width forms as ASCII, and where each of its bytes came from.
#[derive(Debug)]
pub struct Folded {
    pub bytes: Vec<u8>,
    /// One more than there are bytes: the last one is the length of the text.
    origins: Vec<u32>,
}

impl Folded {
    /// Where a byte of the folded text came from.
    pub fn origin(&self, at: usize) -> usize {
        self.origins.get(at).map_or(0, |it| *it as usize)
    }
}

/// All full-width forms begin with this byte, and no Hangul syllable does.
const FIRST: u8 = 0xef;

/// Whether there may be full-width forms in a text at all. Looks at whole blocks without a branch, which compilers turn into
/// vectors.
pub fn may_hold(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let holds = |block: &[u8]| block.iter().fold(false, |any, it| any | (*it == FIRST));
    blocks.iter().any(|it| holds(it)) || holds(rest)
}

/// None when the text holds no full-width form.
pub fn fold(text: &str) -> Option<Folded> {
    if !text.contains(|it| ascii(it).is_some()) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut origins = Vec::with_capacity(text.len() + 1);
    for (at, character) in text.char_indices() {
        if let Some(it) = ascii(character) {
            bytes.push(it);
            origins.push(at as u32);
        } else {
            let mut buffer = [0; 4];
            for it in character.encode_utf8(&mut buffer).bytes() {
                // Matches begin and end at characters, so every byte of one may point at its first.
                bytes.push(it);
                origins.push(at as u32);
            }
        }
    }
    origins.push(text.len() as u32);
    Some(Folded { bytes, origins })
}

/// The ASCII character that U+FF01 to U+FF5E stand for.
fn ascii(it: char) -> Option<u8> {
    match it {
        '\u{ff01}'..='\u{ff5e}' => Some((it as u32 - 0xff01 + 0x21) as u8),
        _ => None,
    }
}
