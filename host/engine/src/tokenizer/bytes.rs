//! What a single token stands for, in bytes: it may be part of a character.

use super::Tokenizer;

impl Tokenizer {
    /// Bytes of a token; none of a number that is no token. A special token stands for its name.
    pub(crate) fn bytes(&self, id: u32) -> Vec<u8> {
        let Some(text) = self.name(id) else { return Vec::new() };
        let is_added = self.inner.get_added_vocabulary().is_special_token(&text);
        if is_added {
            return text.into_bytes();
        }
        // The space and the line end of vocabularies that write bytes as visible characters.
        if self.inner.token_to_id("Ġ").is_some() && self.inner.token_to_id("Ċ").is_some() {
            return match text.chars().map(byte_level).collect() {
                Some(bytes) => bytes,
                None => text.into_bytes(),
            };
        }
        let byte = text.strip_prefix("<0x").and_then(|it| it.strip_suffix('>'));
        match byte.and_then(|it| u8::from_str_radix(it, 16).ok()) {
            Some(byte) => vec![byte],
            None => text.replace('▁', " ").into_bytes(),
        }
    }
}

/// The byte that a character stands for in GPT-2's vocabulary: printable Latin-1 for itself, then the other bytes in order from
/// U+0100 on.
fn byte_level(it: char) -> Option<u8> {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(it) {
        code @ 0..0x100 => u8::try_from(code).ok().filter(|byte| is_printable(*byte)),
        code => (0..=u8::MAX).filter(|byte| !is_printable(*byte)).nth(code as usize - 0x100),
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        checkpoint::Files,
        tests::{folder, json_file},
        tokenizer::Tokenizer,
    };

    #[test]
    fn bytes_of_tokens_make_up_the_text() {
        let files = Files::Folder(folder("llama"));
        let tokenizer = Tokenizer::from_files(&files, &json_file("llama", "config.json")).unwrap();
        for text in ["hello world\n\t", "끝 é 🎯", "\u{7f}\u{a0}\u{ad}"] {
            let tokens = tokenizer.encode(text).unwrap();
            let bytes: Vec<u8> = tokens.iter().flat_map(|it| tokenizer.bytes(*it)).collect();
            assert_eq!(String::from_utf8(bytes).unwrap(), text, "{tokens:?}");
        }
        assert_eq!(tokenizer.bytes(u32::MAX), b"");
        let end = tokenizer.encode("<|im_end|>").unwrap();
        assert_eq!(tokenizer.bytes(end[0]), b"<|im_end|>");
    }
}
