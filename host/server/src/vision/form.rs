//! A form of `multipart/form-data`: texts as the fields that JSON would have, and files as images.

use std::convert::Infallible;

use axum::http::{HeaderMap, header};
use futures_util::stream;
use multer::{Multipart, parse_boundary};

use super::from_texts;
use crate::{Limits, error::ApiError, fields::Fields};

/// More than there are parameters.
const TEXTS_MAX: usize = 64;

/// What stands between the parts, if this is a form.
pub(super) fn boundary(headers: &HeaderMap) -> Option<String> {
    parse_boundary(headers.get(header::CONTENT_TYPE)?.to_str().ok()?).ok()
}

/// The fields, and each file under its name. The body has been read already, within its limit.
pub(super) async fn read(
    body: Vec<u8>,
    boundary: String,
    limits: &Limits,
) -> Result<(Fields, Vec<(String, Vec<u8>)>), ApiError> {
    let bad = |error: multer::Error| ApiError::BadForm(error.to_string());
    let chunks = stream::iter([Ok::<_, Infallible>(body)]);
    let mut parts = Multipart::new(chunks, boundary);
    let (mut texts, mut files) = (Vec::new(), Vec::new());
    while let Some(part) = parts.next_field().await.map_err(bad)? {
        let name = part.name().unwrap_or_default().to_owned();
        if name == "image" || name == "images" || part.file_name().is_some() {
            if files.len() >= limits.images {
                let reason = format!("may hold {} images, not more", limits.images);
                return Err(ApiError::invalid("image", reason));
            }
            // What came as a text may be base64, as in JSON.
            let is_text = part.file_name().is_none() && part.content_type().is_none();
            if is_text {
                texts.push((name, part.text().await.map_err(bad)?));
            } else {
                files.push((name, part.bytes().await.map_err(bad)?.to_vec()));
            }
        } else {
            if texts.len() >= TEXTS_MAX {
                let reason = format!("it has more than {TEXTS_MAX} fields");
                return Err(ApiError::BadForm(reason));
            }
            texts.push((name, part.text().await.map_err(bad)?));
        }
    }
    Ok((from_texts(texts), files))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn part(head: &str, body: &str) -> String {
        format!("--X\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n")
    }

    async fn read_all(parts: &[String]) -> Result<(Fields, Vec<(String, Vec<u8>)>), ApiError> {
        let body = format!("{}--X--\r\n", parts.concat());
        let limits = Limits { images: 2, ..Limits::default() };
        read(body.into_bytes(), "X".to_owned(), &limits).await
    }

    #[tokio::test]
    async fn texts_become_fields_and_files_images() {
        let parts = [
            part("name=\"prompt\"", "42"),
            part("name=\"max_tokens\"", "7"),
            part("name=\"image\"; filename=\"a.png\"", "png"),
        ];
        let (mut fields, files) = read_all(&parts).await.unwrap();
        assert_eq!(fields.text("prompt").unwrap().as_deref(), Some("42"));
        assert_eq!(fields.integer("max_tokens", 0..=9).unwrap(), Some(7));
        assert_eq!(files, [("image".to_owned(), b"png".to_vec())]);
        let (mut fields, files) = read_all(&[part("name=\"image\"", "aGk=")]).await.unwrap();
        assert_eq!(fields.text("image").unwrap().as_deref(), Some("aGk="));
        assert!(files.is_empty());
    }

    #[tokio::test]
    async fn a_form_that_is_none_or_has_too_much_is_refused() {
        let code = |it: Result<_, ApiError>| it.map(|_: (Fields, _)| ()).unwrap_err().code();
        let broken = read(b"hello".to_vec(), "X".to_owned(), &Limits::default()).await;
        assert_eq!(code(broken), "invalid_form");
        let file = part("name=\"image\"; filename=\"a.png\"", "png");
        assert_eq!(code(read_all(&vec![file; 3]).await), "invalid_value");
        let text = part("name=\"x\"", "y");
        assert_eq!(code(read_all(&vec![text; 65]).await), "invalid_form");
    }

    #[test]
    fn a_form_is_known_by_its_type() {
        let check = |kind: &'static str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(boundary(&headers).as_deref(), expected, "{kind}");
        };
        check("multipart/form-data; boundary=abc", Some("abc"));
        check("application/json", None);
        assert_eq!(boundary(&HeaderMap::new()), None);
    }
}
