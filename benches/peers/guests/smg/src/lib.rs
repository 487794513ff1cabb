//! A middleware of the gateway SMG that does the job on the body of a request.

#[cfg(not(feature = "scanner"))]
use rules as finder;
#[cfg(feature = "scanner")]
use scanner as finder;

wit_bindgen::generate!({ path: "wit", world: "smg" });

use exports::smg::gateway::{middleware_on_request, middleware_on_response};
use smg::gateway::middleware_types::{Action, ModifyAction, Request, Response};

struct Middleware;

impl middleware_on_request::Guest for Middleware {
    fn on_request(request: Request) -> Action {
        let Ok(text) = String::from_utf8(request.body) else { return Action::Reject(400) };
        match finder::redact(&text) {
            Some(redacted) => Action::Modify(ModifyAction {
                status: None,
                headers_set: Vec::new(),
                headers_add: Vec::new(),
                headers_remove: Vec::new(),
                body_replace: Some(redacted.into_bytes()),
            }),
            None => Action::Continue,
        }
    }
}

impl middleware_on_response::Guest for Middleware {
    fn on_response(_response: Response) -> Action {
        Action::Continue
    }
}

export!(Middleware);
