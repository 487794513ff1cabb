//! A JSON object less some of its members: what stays, stays byte for byte.

use bytes::Bytes;
use serde::de::{Deserialize, IgnoredAny};

use crate::{body::PARSE_ASIDE, error::ApiError};

/// The object without the members of these names; as it was, if it has none of them.
pub(super) async fn without(
    object: Bytes,
    names: &'static [&'static str],
) -> Result<Bytes, ApiError> {
    let is_short = object.len() <= PARSE_ASIDE;
    let less = move || match cut(&object, names) {
        Some(Some(it)) => Ok(Bytes::from(it)),
        Some(None) => Ok(object),
        None => Err(ApiError::NotAnObject("something else")),
    };
    if is_short {
        return less();
    }
    tokio::task::spawn_blocking(less).await.map_err(|_| ApiError::Panic)?
}

/// None: it is no object, so nobody knows what is in it. None inside: there is nothing to take out.
fn cut(object: &[u8], names: &[&str]) -> Option<Option<Vec<u8>>> {
    let members = members(object)?;
    let kept = members.iter().filter(|(name, _)| !names.contains(&name.as_str()));
    let kept: Vec<&[u8]> = kept.map(|(_, member)| *member).collect();
    if kept.len() == members.len() {
        return Some(None);
    }
    let mut cut = Vec::with_capacity(object.len());
    cut.push(b'{');
    cut.extend_from_slice(&kept.join(&b","[..]));
    cut.push(b'}');
    Some(Some(cut))
}

/// Names, and the bytes of each member from its name to the end of its value.
fn members(object: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let mut rest = object.trim_ascii_start().strip_prefix(b"{")?;
    let mut members = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        match rest.first()? {
            b'}' => return Some(members),
            b',' => rest = &rest[1..],
            _ => {
                let (name, after) = first::<String>(rest)?;
                let value = after.trim_ascii_start().strip_prefix(b":")?;
                let (_, after) = first::<IgnoredAny>(value)?;
                members.push((name, &rest[..rest.len() - after.len()]));
                rest = after;
            }
        }
    }
}

/// The value at the beginning, and what comes after it.
fn first<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, &bytes[values.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_stays_byte_for_byte() {
        let check = |object: &str, expected: &str| {
            let less = cut(object.as_bytes(), &["store", "metadata"]);
            let less = less.flatten().map(|it| String::from_utf8(it).unwrap());
            assert_eq!(less.as_deref(), Some(expected), "{object}");
        };
        for whole in ["{}", " { } ", r#"{"model": "m", "x": {"store": true}}"#] {
            assert_eq!(cut(whole.as_bytes(), &["store"]), Some(None), "{whole}");
        }
        for none in ["[1]", "{", "", "{1: 2}"] {
            assert_eq!(cut(none.as_bytes(), &["store"]), None, "{none}");
        }
        check(r#"{"store":true}"#, "{}");
        check(r#" {"store" : true , "a" : 1.50e+1 }"#, r#"{"a" : 1.50e+1}"#);
        check(
            r#"{"a": [1, {"store": 2}],"metadata": {"k": "}"},"b":"\u00e9\"", "store":false, "c":-0}"#,
            r#"{"a": [1, {"store": 2}],"b":"\u00e9\"","c":-0}"#,
        );
        // By another spelling, and twice.
        check(r#"{"st\u006fre": 1, "a": null, "store": 2}"#, r#"{"a": null}"#);
    }
}
