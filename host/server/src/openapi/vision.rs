//! `POST /vision`: a question about images in each of its forms, and the answer of our engine and of other servers.

use serde_json::Value;
use utoipa::{
    IntoParams, PartialSchema as _, ToSchema,
    openapi::{
        Object, RefOr, Required, Schema, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::SchemaType,
    },
};

use super::common::{Errors, Sampling, StopReason, Usage};

/// Answers one prompt about images, whole.
#[utoipa::path(
    post, path = crate::vision::ROUTE, operation_id = "vision", tag = "vision",
    params(VisionQuery),
    request_body(
        description = "JSON; a form; or an image itself, with everything else in the query string.",
        content((VisionRequest = "application/json"), (VisionForm = "multipart/form-data"), ("image/*"))
    ),
    responses((status = 200, description = "The answer.", body = Vision), Errors)
)]
fn vision() {}

/// Answers one prompt about images, whole.
#[utoipa::path(
    post, path = crate::vision::ROUTE, operation_id = "vision", tag = "vision",
    params(VisionQuery),
    request_body(
        description = "JSON; a form; or an image itself, with everything else in the query string.",
        content((VisionRequest = "application/json"), (VisionForm = "multipart/form-data"), ("image/*"))
    ),
    responses((status = 200, description = "The answer of an upstream.", body = FrontVision), Errors)
)]
fn front_vision() {}

#[derive(ToSchema)]
pub(super) struct VisionRequest {
    prompt: String,
    /// Without it, the first model that sees images.
    model: Option<String>,
    /// An adapter of the model.
    adapter: Option<String>,
    /// Another name of `adapter`.
    lora: Option<String>,
    /// Base64, as a data URL or plain; or an address on a host that the server fetches images from.
    image: Option<String>,
    /// In place of `image`.
    #[schema(max_items = 8)]
    images: Option<Vec<String>>,
    /// Never true: `/v1/chat/completions` streams.
    stream: Option<bool>,
    /// Always 1: `/v1/chat/completions` gives several answers.
    #[schema(minimum = 1, maximum = 1)]
    n: Option<i64>,
    #[serde(flatten)]
    sampling: Sampling,
}

/// What is no text in JSON is written as in JSON.
#[derive(ToSchema)]
pub(super) struct VisionForm {
    prompt: String,
    #[schema(nullable = false)]
    model: Option<String>,
    #[schema(nullable = false)]
    adapter: Option<String>,
    #[schema(nullable = false)]
    lora: Option<String>,
    /// Files.
    #[schema(max_items = 8, format = Binary, nullable = false)]
    image: Option<Vec<String>>,
    #[schema(nullable = false, min_length = 1, max_length = 256)]
    stop: Option<String>,
    #[serde(flatten)]
    sampling: Sampling,
}

/// The query string beside an image that is the body.
pub(super) struct VisionQuery;

impl IntoParams for VisionQuery {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        const TEXTS: [&str; 5] = ["prompt", "model", "adapter", "lora", "stop"];
        let text = |it: &str| (it.to_owned(), Object::with_type(Type::String));
        let mut all: Vec<(String, Object)> = TEXTS.map(text).into();
        if let RefOr::T(Schema::Object(sampling)) = Sampling::schema() {
            for (name, schema) in sampling.properties {
                // Without null, for which a query string has no word.
                if let RefOr::T(Schema::Object(mut schema)) = schema
                    && let SchemaType::Array(types) = &schema.schema_type
                    && let [kind @ (Type::Integer | Type::Number | Type::Boolean), ..] =
                        types.as_slice()
                {
                    schema.schema_type = SchemaType::new(kind.clone());
                    all.push((name, schema));
                }
            }
        }
        let parameter = |(name, schema): (String, Object)| {
            let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
            parameter.required(Required::False).schema(Some(schema)).build()
        };
        all.into_iter().map(parameter).collect()
    }
}

#[derive(ToSchema)]
pub(super) struct Vision {
    request_id: String,
    model: String,
    response: String,
    finish_reason: StopReason,
    usage: Usage,
    timings: Timings,
    /// Of the image, if there was one.
    #[schema(nullable = false)]
    image: Option<ImageFacts>,
    /// Of each image, if there were several.
    #[schema(nullable = false)]
    images: Option<Vec<ImageFacts>>,
}

#[derive(ToSchema)]
pub(super) struct Timings {
    generation_ms: u64,
    tokens_per_second: f64,
    endpoint_total_ms: u64,
}

#[derive(ToSchema)]
pub(super) struct ImageFacts {
    width: u32,
    height: u32,
    /// Pillow's name.
    mode: String,
}

#[derive(ToSchema)]
pub(super) struct FrontVision {
    request_id: String,
    #[schema(required)]
    model: Option<String>,
    response: String,
    #[schema(required)]
    finish_reason: Option<String>,
    /// In the upstream's own words.
    usage: Value,
    timings: FrontTimings,
    /// Of the image, if there was one.
    #[schema(nullable = false)]
    image: Option<ImageFacts>,
    /// Of each image, if there were several.
    #[schema(nullable = false)]
    images: Option<Vec<ImageFacts>>,
}

#[derive(ToSchema)]
pub(super) struct FrontTimings {
    generation_ms: u64,
    /// If the upstream counts tokens.
    #[schema(nullable = false)]
    tokens_per_second: Option<f64>,
    endpoint_total_ms: u64,
}
