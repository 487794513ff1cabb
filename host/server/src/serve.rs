//! The listener and its orderly end.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    serve::ListenerExt as _,
};
use futures_util::{StreamExt as _, stream};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::timeout,
};

use crate::error::ApiError;

/// How long the tasks of requests that were cut off may take to notice: they only have to be polled once.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Serves until `shutdown` completes. Then it takes no more connections and lets the requests under way end within `grace`;
/// those that don't are dropped, so that each still gets its terminal record (`request.cancelled`).
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> io::Result<()> {
    let (cut, is_cut) = watch::channel(false);
    let (draining, is_draining) = oneshot::channel();
    let router = router.layer(middleware::from_fn_with_state(is_cut, until_cut));
    // Tokens are small and each matters at once.
    let listener = listener.tap_io(|stream| {
        if stream.set_nodelay(true).is_err() {
            tracing::debug!(target: "bucksaw", event = "log", bucksaw.notice = "no TCP_NODELAY");
        }
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move {
        shutdown.await;
        // Fails only when `serve` itself is gone.
        let _ = draining.send(());
    });
    let mut server = pin!(server.into_future());

    tokio::select! {
        result = &mut server => return result,
        _ = is_draining => {}
    }
    if let Ok(result) = timeout(grace, &mut server).await {
        return result;
    }
    // Nobody may be listening: then there is nothing to cut.
    let _ = cut.send(true);
    // A connection that never sent a request is not waited for.
    timeout(LAST_CALL, &mut server).await.unwrap_or(Ok(()))
}

/// Drops the handler, or the body that it made, when the grace is over.
async fn until_cut(
    State(is_cut): State<watch::Receiver<bool>>,
    request: Request,
    next: Next,
) -> Response {
    let response = tokio::select! {
        response = next.run(request) => response,
        () = gone(is_cut.clone()) => return ApiError::ShuttingDown.into_response(),
    };
    let (parts, body) = response.into_parts();
    // A body of known size is complete already; the others are streams that may go on for minutes.
    if body.size_hint().exact().is_some() {
        return Response::from_parts(parts, body);
    }
    let frames = stream::unfold(Some((body.into_data_stream(), is_cut)), |state| async move {
        let (mut frames, is_cut) = state?;
        tokio::select! {
            biased;
            // An error, not an end: the client must see that the stream is incomplete. The rest is dropped here.
            () = gone(is_cut.clone()) => {
                Some((Err(axum::Error::new(io::Error::other("the server is shutting down"))), None))
            }
            frame = frames.next() => frame.map(|it| (it, Some((frames, is_cut)))),
        }
    });
    Response::from_parts(parts, Body::from_stream(frames))
}

async fn gone(mut is_cut: watch::Receiver<bool>) {
    // An error means that `serve` has returned, which is as good as cut.
    let _ = is_cut.wait_for(|it| *it).await;
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        sync::{Arc, Mutex},
    };

    use axum::routing::get;

    use super::*;

    /// Tells when it is dropped.
    struct Held(Option<oneshot::Sender<()>>);

    impl Drop for Held {
        fn drop(&mut self) {
            if let Some(it) = self.0.take() {
                let _ = it.send(());
            }
        }
    }

    #[derive(Clone, Copy)]
    enum Handler {
        /// Never answers.
        Hangs,
        /// Answers with a stream that says one thing and never ends.
        Streams,
    }

    async fn check(handler: Handler, expected: &str) {
        let (entered, is_entered) = oneshot::channel();
        let (dropped, is_dropped) = oneshot::channel();
        let parts = Arc::new(Mutex::new(Some((entered, Held(Some(dropped))))));
        let handle = move || {
            let parts = Arc::clone(&parts);
            async move {
                let taken = parts.lock().unwrap().take();
                let (entered, held) = taken.unwrap();
                entered.send(()).unwrap();
                match handler {
                    Handler::Hangs => {
                        std::future::pending::<()>().await;
                        drop(held);
                        Response::new(Body::empty())
                    }
                    Handler::Streams => {
                        let first = stream::iter([Ok::<_, io::Error>("hello")]);
                        let rest = stream::poll_fn(move |_| {
                            let _held = &held;
                            std::task::Poll::Pending
                        });
                        Response::new(Body::from_stream(first.chain(rest)))
                    }
                }
            }
        };
        let router = Router::new().route("/", get(handle));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();

        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let server = tokio::spawn(serve(listener, router, shutdown, Duration::ZERO));
        is_entered.await.unwrap();
        stop.send(()).unwrap();
        is_dropped.await.unwrap();
        server.await.unwrap().unwrap();

        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(expected), "{answer}");
        // The mark of a complete chunked body.
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_dropped_when_the_grace_is_over() {
        check(Handler::Hangs, "shutting_down").await;
    }

    #[tokio::test]
    async fn a_stream_that_goes_on_is_dropped_when_the_grace_is_over() {
        check(Handler::Streams, "").await;
    }
}
