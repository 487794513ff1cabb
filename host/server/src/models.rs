//! The models that are served: their list, and which one a request means.

use axum::{
    Json,
    extract::{Path, State},
};
use engine::ServedModel;
use serde_json::{Value, json};

use crate::{error::ApiError, state::App};

/// An alias that stands for every name.
pub(crate) const ANY: &str = "*";

pub(crate) async fn list(State(app): State<App>) -> Json<Value> {
    let models = app.engine().models();
    let mut data: Vec<_> = models.iter().map(describe).collect();
    let is_served = |name: &str| models.iter().any(|it| it.name == name);
    let named = app.aliases().iter().filter(|it| *it != ANY && !is_served(it));
    data.extend(named.filter_map(|it| Some(describe_as(it, models.first()?))));
    Json(json!({"object": "list", "data": data}))
}

pub(crate) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let models = app.engine().models();
    match find(&models, app.aliases(), &id) {
        Some(model) => Ok(Json(describe_as(&id, model))),
        None => Err(ApiError::unknown_model("model", id, &models)),
    }
}

/// As the OpenAI API has it for models that one cannot delete: the answer says that it was not.
pub(crate) async fn delete(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let models = app.engine().models();
    match find(&models, app.aliases(), &id) {
        Some(_) => Ok(Json(json!({"id": id, "object": "model", "deleted": false}))),
        None => Err(ApiError::unknown_model("model", id, &models)),
    }
}

fn is_alias(aliases: &[String], name: &str) -> bool {
    aliases.iter().any(|it| it == name || it == ANY)
}

fn find<'a>(models: &'a [ServedModel], aliases: &[String], name: &str) -> Option<&'a ServedModel> {
    let served = models.iter().find(|it| it.name == name);
    served.or_else(|| models.first().filter(|_| is_alias(aliases, name)))
}

fn describe_as(id: &str, model: &ServedModel) -> Value {
    let mut value = describe(model);
    value["id"] = Value::from(id);
    value
}

/// What an answer calls its model: an alias that is configured by this name, or the served name.
pub(crate) fn name_for(app: &App, model: &ServedModel, asked: Option<&str>) -> String {
    let alias = asked.filter(|it| *it != ANY && app.aliases().iter().any(|alias| alias == it));
    alias.unwrap_or(&model.name).to_owned()
}

fn describe(model: &ServedModel) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "bucksaw",
        "root": model.parent.as_ref().unwrap_or(&model.name),
        "parent": model.parent,
        "max_model_len": model.context,
        "vision": model.vision,
        "family": model.family,
    })
}

/// What a request says about the model that it wants.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) model: Option<&'a str>,
    pub(crate) adapter: Option<&'a str>,
    pub(crate) images: bool,
}

/// The served model that is meant. With no name it is the first one that can do what is asked. An adapter is a served model
/// of its own; one that is not served, or not for this model, is left for the engine to refuse, which writes the record that
/// says so.
pub(crate) fn resolve(app: &App, wanted: Wanted<'_>) -> Result<ServedModel, ApiError> {
    choose(&app.engine().models(), app.aliases(), wanted).cloned()
}

fn choose<'a>(
    models: &'a [ServedModel],
    aliases: &[String],
    wanted: Wanted<'_>,
) -> Result<&'a ServedModel, ApiError> {
    let fit = || models.iter().find(|it| it.vision || !wanted.images).or_else(|| models.first());
    let base = match wanted.model {
        Some(name) => models
            .iter()
            .find(|it| it.name == name)
            .or_else(|| fit().filter(|_| is_alias(aliases, name))),
        None => fit(),
    };
    let base =
        base.ok_or_else(|| ApiError::unknown_model("model", wanted.model.unwrap_or(""), models))?;
    let adapter = wanted
        .adapter
        .and_then(|name| models.iter().find(|it| it.name == name && it.parent.is_some()));
    let model = match adapter {
        Some(it) if wanted.model.is_none() || belongs(it, base) => it,
        _ => base,
    };
    if wanted.images && !model.vision {
        return Err(ApiError::NoVision { model: model.name.clone() });
    }
    Ok(model)
}

fn belongs(adapter: &ServedModel, model: &ServedModel) -> bool {
    adapter.name == model.name || adapter.parent.as_deref() == Some(model.name.as_str())
}

/// What the engine's refusal of an adapter means.
pub(crate) fn adapter_refused(models: &[ServedModel], adapter: &str, model: &str) -> ApiError {
    let served = models.iter().find(|it| it.name == adapter);
    match served.and_then(|it| it.parent.as_deref()) {
        Some(parent) => {
            let reason = format!("{adapter:?} belongs to model {parent:?}, not to {model:?}");
            ApiError::invalid("adapter", reason)
        }
        None => ApiError::unknown_model("adapter", adapter, models),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(name: &str, parent: Option<&str>, vision: bool) -> ServedModel {
        ServedModel {
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
            vision,
            context: 128,
            family: "llama",
            created: 1,
        }
    }

    #[test]
    fn a_request_gets_the_model_it_means() {
        let models = [
            served("text", None, false),
            served("sql", Some("text"), false),
            served("eyes", None, true),
            served("chart", Some("eyes"), true),
        ];
        let check = |model, adapter, images, expected: Result<&str, &str>| {
            let wanted = Wanted { model, adapter, images };
            let got =
                choose(&models, &[], wanted).map(|it| it.name.as_str()).map_err(|it| it.code());
            assert_eq!(got, expected, "{wanted:?}");
        };
        check(None, None, false, Ok("text"));
        check(None, None, true, Ok("eyes"));
        check(Some("sql"), None, false, Ok("sql"));
        check(Some("nope"), None, false, Err("model_not_found"));
        check(Some("text"), None, true, Err("no_vision"));
        check(None, Some("sql"), false, Ok("sql"));
        check(Some("text"), Some("sql"), false, Ok("sql"));
        check(Some("sql"), Some("sql"), false, Ok("sql"));
        check(None, Some("chart"), true, Ok("chart"));
        check(None, Some("sql"), true, Err("no_vision"));
        // Left for the engine to refuse.
        check(Some("text"), Some("nope"), false, Ok("text"));
        check(Some("eyes"), Some("sql"), false, Ok("eyes"));
        // A base model is no adapter.
        check(Some("text"), Some("eyes"), false, Ok("text"));
        assert!(choose(&[], &[], Wanted::default()).is_err());
        let aliased = |alias: &str, model, images| {
            let wanted = Wanted { model: Some(model), adapter: None, images };
            choose(&models, &[alias.to_owned()], wanted).map_or("none", |it| &it.name)
        };
        assert_eq!(aliased("gpt", "gpt", false), "text");
        assert_eq!(aliased("gpt", "gpt", true), "eyes");
        assert_eq!(aliased("gpt", "sql", false), "sql");
        assert_eq!(aliased("gpt", "other", false), "none");
        assert_eq!(aliased("*", "other", false), "text");
        assert_eq!(adapter_refused(&models, "nope", "text").code(), "model_not_found");
        assert_eq!(adapter_refused(&models, "eyes", "text").code(), "model_not_found");
        assert_eq!(adapter_refused(&models, "sql", "eyes").code(), "invalid_value");
    }

    #[test]
    fn a_description_has_what_clients_read() {
        let value = describe(&served("sql", Some("text"), false));
        assert_eq!(value["id"], "sql");
        assert_eq!(value["object"], "model");
        assert_eq!(value["root"], "text");
        assert_eq!(value["parent"], "text");
        assert!(describe(&served("text", None, false))["parent"].is_null());
    }
}
