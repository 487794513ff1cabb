//! Addresses of mail.

/// The longest local part and domain that mail allows.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 253;

/// The address around the `@` at this place.
///
/// Both parts are ASCII, so that Korean particles right beside an address are not taken for a part of it.
pub fn find(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let before = bytes.get(..at)?;
    let length = before.iter().rev().take(MAX_LOCAL).take_while(|it| is_local(**it)).count();
    let dots = before.get(at - length..)?.iter().take_while(|it| **it == b'.').count();
    let start = at - length + dots;
    if start == at || bytes.get(at - 1) == Some(&b'.') {
        return None;
    }
    let end = domain(bytes, at + 1)?;
    Some((start, end))
}

fn is_local(it: u8) -> bool {
    it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'%' | b'+' | b'-')
}

/// Where the domain that starts here ends: after the last label that reads as a top-level domain.
fn domain(bytes: &[u8], start: usize) -> Option<usize> {
    let mut end = None;
    let mut label = start;
    let mut labels = 0;
    while label < bytes.len() && label - start < MAX_DOMAIN {
        let rest = bytes.get(label..)?;
        let length = rest
            .iter()
            .take(64)
            .take_while(|it| it.is_ascii_alphanumeric() || **it == b'-')
            .count();
        if length == 0 || length > 63 || rest.first() == Some(&b'-') {
            break;
        }
        if labels > 0 {
            let letters = rest.iter().take_while(|it| it.is_ascii_alphabetic()).count();
            if rest.starts_with(b"xn--") {
                end = Some(label + length);
            } else if letters >= 2 {
                // `example.com2025년` ends with the letters.
                end = Some(label + letters);
            }
        }
        labels += 1;
        if rest.get(length) != Some(&b'.') {
            break;
        }
        label += length + 1;
    }
    end
}
