//! `GET /metrics`: what Prometheus scrapes. It knows how the text is sent; it says what the server counts (`meters`) and what
//! the application does.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse as _, Response},
};

use crate::{meters, state::App};

pub(crate) const ROUTE: &str = "/metrics";

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn metrics(State(app): State<App>) -> Response {
    let models = app.engine().models();
    let adapters = models.iter().filter(|it| it.parent.is_some());
    let adapters: Vec<_> = adapters.map(|it| it.name.clone()).collect();
    let engine = |it: engine::EngineState| meters::Engine {
        running: it.stats.running,
        waiting: it.stats.waiting,
        blocks: it.stats.blocks,
        free_blocks: it.stats.free_blocks,
        block_tokens: it.stats.block_tokens,
        preemptions: it.stats.preemptions,
        sequences: it.stats.sequences,
        step_tokens: it.stats.step_tokens,
        adapters: adapters.clone(),
    };
    let engines: Vec<_> = app.engine().engines().into_iter().map(engine).collect();
    let names = models.iter().map(|it| it.name.as_str());
    answer(app.meters().encode(names, &engines) + &app.metrics())
}

pub(crate) fn answer(text: String) -> Response {
    ([(header::CONTENT_TYPE, TEXT)], text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn the_type_names_the_version_of_the_format() {
        let (parts, body) = answer("up 1\n".to_owned()).into_parts();
        let types: Vec<_> = parts.headers.get_all(header::CONTENT_TYPE).iter().collect();
        assert_eq!(types, ["text/plain; version=0.0.4; charset=utf-8"]);
        assert_eq!(to_bytes(body, 64).await.unwrap(), "up 1\n");
    }
}
