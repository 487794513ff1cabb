//! `POST /vision`: one prompt, some images, one answer. The guide's own endpoint.
//!
//! It takes JSON; or a form, as `curl -F prompt='What is it' -F image=@cat.png localhost:8000/vision` sends it; or the image
//! itself as the body with everything else in the query string:
//! `curl --data-binary @cat.png -H 'content-type: image/png' 'localhost:8000/vision?prompt=What+is+it'`.

mod form;

use axum::{
    Json,
    body::Body,
    extract::{Query, Request, State},
    http::{StatusCode, Uri, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use engine::Finished;
use serde_json::{Map, Value, json};

use crate::{
    Limits, body,
    chat::schema::check_size,
    choices::sum,
    error::ApiError,
    fields::{Fields, wrong},
    generate::{
        self, Defaults, Draft, DraftPrompt, ImageSource, Piece, Running, Turn, tokens_per_second,
        usage,
    },
    image::{Encoded, ImageFacts},
    models::{self, Wanted},
    params::Params,
    request_log::{Arrival, RequestLog},
    state::App,
};

pub(crate) const ROUTE: &str = "/vision";

/// Greedy: the same image and prompt give the same answer, which is what people who debug image analysis want.
pub(crate) const DEFAULTS: Defaults = Defaults { max_tokens: Some(512), temperature: 0.0 };

#[derive(Debug)]
pub(crate) struct VisionRequest {
    pub(crate) model: Option<String>,
    pub(crate) draft: Draft,
}

pub(crate) async fn vision(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut log = RequestLog::new(Arrival::new(app.chain_for(), &parts, ROUTE));
    match answer(&app, &mut log, &parts, body).await {
        Ok(value) => {
            log.finish(StatusCode::OK);
            Json(value).into_response()
        }
        Err(error) => {
            log.refuse(&error);
            error.into_response()
        }
    }
}

async fn answer(
    app: &App,
    log: &mut RequestLog,
    parts: &Parts,
    body: Body,
) -> Result<Value, ApiError> {
    let limits = app.limits();
    let bytes = body::read(&parts.headers, body, limits).await?;
    log.body(bytes.len());
    let (mut fields, files) = read(parts, bytes, limits).await?;
    log.received(fields.peek_text("model"), false);

    let request = VisionRequest::take(&mut fields, files, limits)?;
    let wanted = Wanted {
        model: request.model.as_deref(),
        adapter: request.draft.adapter.as_deref(),
        images: request.draft.images() > 0,
    };
    let model = models::resolve(app, wanted)?;
    let output = request.draft.params.output;
    let id = log.ids().id.clone();
    log.response_id(&id);
    let Running { mut choices, images, per_prompt, .. } =
        generate::start(app, log, &model, request.draft, DEFAULTS).await?;
    let answers = generate::collect(&mut choices).await?;
    let finished: Vec<_> = answers.iter().map(|it| it.finished.clone()).collect();
    let finished = sum(&finished, per_prompt).ok_or(ApiError::EngineGone)?;
    for answer in &answers {
        generate::answered(log, &answer.text, &answer.finished, output);
    }
    log.performance(&finished);
    let text = answers.into_iter().next().map(|it| it.text).unwrap_or_default();

    let mut value = json!({
        "request_id": id,
        "model": model.name,
        "response": text,
        "finish_reason": finished.reason.as_str(),
        "usage": usage(&finished),
        "timings": timings(&finished, log.elapsed_ms()),
    });
    match images.as_slice() {
        [] => {}
        [image] => value["image"] = describe(image),
        images => value["images"] = images.iter().map(describe).collect(),
    }
    Ok(value)
}

/// The fields of a request in each of its forms, and the files that came beside them, each under the name of its parameter.
pub(crate) async fn read(
    parts: &Parts,
    bytes: Vec<u8>,
    limits: &Limits,
) -> Result<(Fields, Vec<(String, Vec<u8>)>), ApiError> {
    if is_image(parts) {
        Ok((query(&parts.uri)?, vec![("body".to_owned(), bytes)]))
    } else if let Some(boundary) = form::boundary(&parts.headers) {
        form::read(bytes, boundary, limits).await
    } else {
        Ok((body::parse(bytes).await?, Vec::new()))
    }
}

/// Rounded as the log's own lines are, so that the two agree.
fn timings(finished: &Finished, total_ms: f64) -> Value {
    json!({
        "generation_ms": generate::milliseconds(finished.timings.generation).round() as u64,
        "tokens_per_second": (tokens_per_second(finished) * 10.0).round() / 10.0,
        "endpoint_total_ms": total_ms.round() as u64,
    })
}

pub(crate) fn describe(image: &ImageFacts) -> Value {
    json!({"width": image.width, "height": image.height, "mode": image.mode})
}

fn is_image(parts: &Parts) -> bool {
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    kind.and_then(|it| it.get(..6)).is_some_and(|it| it.eq_ignore_ascii_case("image/"))
}

/// The query string as the fields that JSON would have.
fn query(uri: &Uri) -> Result<Fields, ApiError> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| ApiError::BadQuery(error.to_string()))?;
    Ok(from_texts(pairs))
}

/// What came as texts, as the fields that JSON would have.
fn from_texts(pairs: Vec<(String, String)>) -> Fields {
    const TEXT: [&str; 6] = ["prompt", "model", "adapter", "lora", "stop", "image"];
    let mut map = Map::new();
    for (name, text) in pairs {
        let value = match name.as_str() {
            it if TEXT.contains(&it) => Value::String(text),
            // The name of a form is enough.
            "response_format" if !text.trim_start().starts_with('{') => json!({"type": text}),
            // What is no number or boolean stays text, and is refused by its name later.
            _ => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        };
        map.insert(name, value);
    }
    Fields::new(map)
}

impl VisionRequest {
    /// `files` came as such, each under the name of its parameter.
    pub(crate) fn take(
        fields: &mut Fields,
        files: Vec<(String, Vec<u8>)>,
        limits: &Limits,
    ) -> Result<Self, ApiError> {
        if fields.flag("stream")?.unwrap_or(false) {
            return Err(ApiError::Unsupported {
                param: "stream".to_owned(),
                reason: "ask /v1/chat/completions for a stream",
            });
        }
        let model = fields.text("model")?.filter(|it| !it.is_empty());
        let lora = fields.text("lora")?;
        let adapter = fields.text("adapter")?.or(lora).filter(|it| !it.is_empty());
        let params = Params::take(fields, limits)?;
        if params.choices.is_some_and(|it| it > 1) {
            return Err(ApiError::Unsupported {
                param: "n".to_owned(),
                reason: "ask /v1/chat/completions for several answers",
            });
        }
        let prompt = fields.text("prompt")?.ok_or_else(|| ApiError::Missing {
            param: "prompt".to_owned(),
            hint: "say what to do with the image",
        })?;
        let images = if files.is_empty() {
            images(fields, limits)?
        } else {
            let source = |(param, bytes)| ImageSource { param, encoded: Encoded::Raw(bytes) };
            files.into_iter().map(source).collect()
        };
        // Images first: so do the processors of the usual vision models.
        let mut pieces: Vec<_> = images.into_iter().map(Piece::Image).collect();
        pieces.push(Piece::Text(prompt));
        let turns = vec![Turn { role: "user".to_owned(), pieces, ..Turn::default() }];
        let prompts = vec![DraftPrompt::Turns(turns)];
        let draft = Draft { prompts, params, tools: Vec::new(), adapter };
        check_size(&draft, ["prompt", "images"], limits)?;
        Ok(Self { model, draft })
    }
}

fn images(fields: &mut Fields, limits: &Limits) -> Result<Vec<ImageSource>, ApiError> {
    let source = |param: String, text| match Encoded::from_text(text, limits) {
        Ok(encoded) => Ok(ImageSource { param, encoded }),
        Err(source) => Err(ApiError::Image { param, source }),
    };
    let one = fields.text("image")?;
    let many = fields.array("images")?;
    match (one, many) {
        (Some(_), Some(_)) => Err(ApiError::invalid("images", "must not come with image")),
        (Some(text), None) => Ok(vec![source("image".to_owned(), text)?]),
        (None, Some(values)) => values
            .into_iter()
            .enumerate()
            .map(|(index, value)| {
                let param = format!("images[{index}]");
                match value {
                    Value::String(text) => source(param, text),
                    other => Err(wrong(&param, "a string of base64", &other)),
                }
            })
            .collect(),
        (None, None) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(value: Value) -> Result<VisionRequest, ApiError> {
        VisionRequest::take(
            &mut Fields::inner(String::new(), value)?,
            Vec::new(),
            &Limits::default(),
        )
    }

    #[test]
    fn json_gives_a_prompt_behind_its_images() {
        let check = |value: Value, images: usize, adapter: Option<&str>| {
            let request = take(value.clone()).unwrap();
            assert_eq!(request.draft.text(), "what is it", "{value}");
            assert_eq!(request.draft.images(), images, "{value}");
            assert_eq!(request.draft.adapter.as_deref(), adapter, "{value}");
            let DraftPrompt::Turns(turns) = &request.draft.prompts[0] else { panic!("{value}") };
            assert!(matches!(turns[0].pieces.last(), Some(Piece::Text(_))));
        };
        let prompt = "what is it";
        check(json!({"prompt": prompt}), 0, None);
        check(json!({"prompt": prompt, "image": "aGk="}), 1, None);
        check(json!({"prompt": prompt, "image": "data:image/png;base64,aGk="}), 1, None);
        check(json!({"prompt": prompt, "images": ["aGk=", "aGk="]}), 2, None);
        check(json!({"prompt": prompt, "lora": "sql", "stream": false}), 0, Some("sql"));
        check(json!({"prompt": prompt, "adapter": "sql", "lora": ""}), 0, Some("sql"));
    }

    #[test]
    fn a_bad_request_names_its_parameter() {
        let check = |value: Value, param: &str, code: &str| {
            let body = take(value.clone()).unwrap_err().body();
            assert_eq!(body["error"]["param"], param, "{value}");
            assert_eq!(body["error"]["code"], code, "{value}");
        };
        check(json!({"image": "aGk="}), "prompt", "missing_required_parameter");
        check(json!({"prompt": 7}), "prompt", "invalid_value");
        check(json!({"prompt": "x", "stream": true}), "stream", "unsupported_parameter");
        check(json!({"prompt": "x", "image": "a", "images": ["b"]}), "images", "invalid_value");
        check(json!({"prompt": "x", "images": [1]}), "images[0]", "invalid_value");
        check(json!({"prompt": "x", "images": vec!["a"; 9]}), "images", "invalid_value");
        check(json!({"prompt": "x", "image": "http://a/b.png"}), "image", "image_remote");
        check(json!({"prompt": "x", "temperature": 3}), "temperature", "invalid_value");
    }

    #[test]
    fn a_query_string_stands_for_json() {
        let uri: Uri = "/vision?prompt=what+is+it%3F&max_tokens=9&temperature=0.5&model=7&\
                        response_format=json_object"
            .parse()
            .unwrap();
        let mut fields = query(&uri).unwrap();
        let files = vec![("body".to_owned(), vec![1])];
        let request = VisionRequest::take(&mut fields, files, &Limits::default()).unwrap();
        assert_eq!(request.draft.text(), "what is it?");
        assert_eq!(request.draft.images(), 1);
        assert_eq!(request.model.as_deref(), Some("7"));
        let params = &request.draft.params;
        assert_eq!((params.max_tokens, params.temperature), (Some(9), Some(0.5)));
        assert!(params.output.is_some());

        let bad: Uri = "/vision?prompt=x&max_tokens=many".parse().unwrap();
        let mut fields = query(&bad).unwrap();
        assert!(VisionRequest::take(&mut fields, Vec::new(), &Limits::default()).is_err());
    }

    #[test]
    fn a_raw_body_is_known_by_its_type() {
        let check = |kind: &str, expected: bool| {
            let request = Request::builder().header(header::CONTENT_TYPE, kind).body(()).unwrap();
            assert_eq!(is_image(&request.into_parts().0), expected, "{kind}");
        };
        check("image/png", true);
        check("Image/JPEG; q=1", true);
        check("application/json", false);
        check("text", false);
    }
}
