//! Looks at an upstream's health and models, every few seconds.
//!
//! Servers differ in what they have: whatever answers `/health` or `/v1/models` without an error of its own is alive.

use std::{sync::Weak, time::Duration};

use reqwest::{Response, StatusCode, header::AUTHORIZATION};
use serde_json::Value;
use tokio::time::timeout;

use crate::board::{Board, Listed};

/// What does not answer such a question in this time can't be of much use.
const PATIENCE: Duration = Duration::from_secs(2);
/// A thousand models with their descriptions.
const LIST_BYTES: usize = 1 << 20;
/// More than a server of models has, adapters included.
const MODELS_MAX: usize = 1024;
const NAME_CHARS: usize = 256;

/// Looks again and again, until the pool is gone.
pub(crate) async fn follow(board: Weak<Board>, at: usize, check: Duration) {
    loop {
        tokio::time::sleep(check).await;
        let Some(board) = board.upgrade() else { return };
        look(&board, at).await;
    }
}

pub(crate) async fn look(board: &Board, at: usize) {
    let asked = timeout(PATIENCE, ask(board, at)).await;
    let (alive, models) = asked.unwrap_or((false, None));
    if let Some(models) = models {
        board.list(at, models);
    }
    board.probed(at, alive);
}

async fn ask(board: &Board, at: usize) -> (bool, Option<Vec<Listed>>) {
    let health = get(board, at, "/health").await;
    if health.as_ref().is_none_or(|it| it.status().is_server_error()) {
        return (false, None);
    }
    let has_health = health.is_some_and(|it| it.status() != StatusCode::NOT_FOUND);
    if has_health && !board.members[at].settings.models.is_empty() {
        return (true, None);
    }
    match get(board, at, "/v1/models").await {
        Some(it) if it.status().is_success() => (true, read(it).await),
        Some(it) => (has_health || !it.status().is_server_error(), None),
        None => (has_health, None),
    }
}

/// None when there is no answer.
async fn get(board: &Board, at: usize, path: &str) -> Option<Response> {
    let member = &board.members[at];
    let mut request = member.client.get(member.settings.url.join(path));
    if let Some(key) = &member.settings.api_key {
        request = request.header(AUTHORIZATION, key.header());
    }
    request.send().await.ok()
}

async fn read(mut response: Response) -> Option<Vec<Listed>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > LIST_BYTES {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    models(&bytes)
}

/// What a list of models says.
fn models(bytes: &[u8]) -> Option<Vec<Listed>> {
    let mut list: Value = serde_json::from_slice(bytes).ok()?;
    let Value::Array(data) = list.get_mut("data")?.take() else { return None };
    let listed = data.into_iter().filter_map(|about| {
        let id = about.get("id")?.as_str()?.to_owned();
        (id.len() <= NAME_CHARS).then_some(Listed { id, about })
    });
    Some(listed.take(MODELS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_far_as_it_makes_sense() {
        let check = |text: &str, expected: Option<&[&str]>| {
            let models = models(text.as_bytes());
            let ids = models.as_ref().map(|it| it.iter().map(|it| it.id.as_str()).collect());
            assert_eq!(ids, expected.map(<[&str]>::to_vec), "{text}");
        };
        check(r#"{"object":"list","data":[{"id":"a"},{"id":"b","root":"a"}]}"#, Some(&["a", "b"]));
        check(r#"{"data":[{"id":7},{"name":"a"},"b",{"id":"c"}]}"#, Some(&["c"]));
        check(r#"{"data":[]}"#, Some(&[]));
        check(r#"{"data":{}}"#, None);
        check("<html>", None);
        let long = format!(r#"{{"data":[{{"id":"{}"}}]}}"#, "x".repeat(NAME_CHARS + 1));
        check(&long, Some(&[]));
        let many: Vec<String> = (0..2000).map(|it| format!(r#"{{"id":"{it}"}}"#)).collect();
        let many = format!(r#"{{"data":[{}]}}"#, many.join(","));
        assert_eq!(models_len(&many), MODELS_MAX);
    }

    fn models_len(text: &str) -> usize {
        models(text.as_bytes()).unwrap().len()
    }
}
