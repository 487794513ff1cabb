//! The listener and its orderly end.

mod unread;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody as _},
    extract::{ConnectInfo, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::join,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tower::ServiceExt as _;

pub(crate) use self::unread::Unread;
use self::unread::{Heard, Overheard};
use crate::{error::ApiError, request_id::RequestIds};

/// How long the tasks of requests that were cut off may take to notice: they only have to be polled once.
const LAST_CALL: Duration = Duration::from_secs(1);
/// Room for heads that are too large by far, so that who sends them hears of it, and there is a record. Taken only as it is
/// needed.
const HEAD_BYTES: usize = 2 << 20;
/// Each is a file descriptor; more than one engine answers in a minute. Those over it wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// After the system refused to accept: it is out of descriptors or memory, and will be for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection waits for, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// The head of a request, from the begin of the connection or from the end of the request before: over it, 408 and a record.
    /// A connection on which nothing came is closed without a word, and so is one whose next head came along with a request, or
    /// before the answer to it was sent, or behind a body that was not read.
    pub head: Duration,
    /// Requests under way when the server ends.
    pub grace: Duration,
}

/// Serves until `shutdown` completes. Then it takes no more connections and lets the requests under way end within the grace;
/// those that don't are dropped, so that each still gets its terminal record (`request.cancelled`, with the status that the
/// client is sent).
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
    patience: Patience,
) -> io::Result<()> {
    let (cut, is_cut) = watch::channel(false);
    let router = router.layer(middleware::from_fn_with_state(Cut(is_cut), until_cut));
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let ((stream, peer), place) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accepted => match accepted {
                (Ok(accepted), place) => (accepted, place),
                (Err(error), _) => {
                    rest_after(&error).await;
                    continue;
                }
            },
        };
        // Both begin before the end can: a client that is not answered yet is waited for as well.
        let watchers = [connections.watcher(), connections.watcher()];
        let client = Client { peer, router: router.clone(), head_time: patience.head };
        tokio::spawn(async move {
            client.serve(stream, watchers).await;
            drop(place);
        });
    }
    drop(listener);
    let mut ended = pin!(connections.shutdown());
    if timeout(patience.grace, &mut ended).await.is_ok() {
        return Ok(());
    }
    // Nobody may be listening: then there is nothing to cut.
    let _ = cut.send(true);
    // A connection that never sent a head, or is in the middle of one, is not waited for any longer.
    let _ = timeout(LAST_CALL, &mut ended).await;
    Ok(())
}

/// Whoever is at the other end of one connection.
struct Client {
    peer: SocketAddr,
    router: Router,
    head_time: Duration,
}

impl Client {
    /// Until it leaves, or is left. What goes wrong with a connection is its client's to see; requests have records of their own.
    async fn serve(self, stream: TcpStream, [first, last]: [Watcher; 2]) {
        // Tokens are small and each matters at once.
        if stream.set_nodelay(true).is_err() {
            tracing::debug!(target: "bucksaw", event = "log", bucksaw.notice = "no TCP_NODELAY");
        }
        let heard = Heard::default();
        let (stream, handed_back) = Overheard::new(stream, heard.clone());
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let request = request.map(|body| heard.requested(body));
            self.router.clone().oneshot(self.known(request))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.head_time).max_buf_size(HEAD_BYTES);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let Err(error) = first.watch(connection).await else { return };
        let Ok(stream) = handed_back.await else { return };
        let Some(unread) = Unread::of(&error, &heard, self.head_time) else { return };
        let request = self.known(heard.request(unread));
        let Ok(response) = self.router.clone().oneshot(request).await;
        if !heard.is_answered() {
            say(response, stream).await;
        }
        drop(last);
    }

    fn known(&self, mut request: Request) -> Request {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        request
    }
}

/// Answers on a connection from which no request could be read.
async fn say(response: Response, stream: TcpStream) {
    let response = Mutex::new(Some(response));
    let service = service_fn(|_| {
        let response = response.lock().ok().and_then(|mut it| it.take()).unwrap_or_default();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    // Stands in for the request that did not come.
    let io = TokioIo::new(join(&b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"[..], stream));
    let connection = http1::Builder::new().half_close(true).serve_connection(io, service);
    let _ = timeout(LAST_CALL, connection).await;
}

/// A client that left before it was accepted is nothing; anything else will be the same a moment later.
async fn rest_after(error: &io::Error) {
    use io::ErrorKind as K;
    if !matches!(error.kind(), K::ConnectionAborted | K::ConnectionRefused | K::ConnectionReset) {
        tracing::error!(
            target: "bucksaw",
            event = "log",
            bucksaw.notice = format!("no connection can be accepted: {error}"),
        );
        sleep(ACCEPT_PAUSE).await;
    }
}

/// Whether requests are cut off because the grace is over. Each request has it among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct Cut(watch::Receiver<bool>);

impl Cut {
    pub(crate) fn is_made(&self) -> bool {
        // The second as in `made`.
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    async fn made(mut self) {
        // An error means that `serve` has returned, which is as good as cut.
        let _ = self.0.wait_for(|it| *it).await;
    }
}

/// Drops the handler, or the body that it made, when the grace is over.
async fn until_cut(State(cut): State<Cut>, mut request: Request, next: Next) -> Response {
    // Handlers take over both, so that what they log and what is answered here agree.
    let ids = RequestIds::of(request.extensions(), request.headers());
    request.extensions_mut().insert(ids.clone());
    request.extensions_mut().insert(cut.clone());
    let response = tokio::select! {
        response = next.run(request) => response,
        () = cut.clone().made() => {
            let mut response = ApiError::ShuttingDown.into_response();
            ids.write(response.headers_mut());
            return response;
        }
    };
    let (parts, body) = response.into_parts();
    // A body of known size is complete already; the others are streams that may go on for minutes.
    if body.size_hint().exact().is_some() {
        return Response::from_parts(parts, body);
    }
    let frames = stream::unfold(Some((body.into_data_stream(), cut)), |state| async move {
        let (mut frames, cut) = state?;
        tokio::select! {
            biased;
            // An error, not an end: the client must see that the stream is incomplete. The rest is dropped here.
            () = cut.clone().made() => {
                Some((Err(axum::Error::new(io::Error::other("the server is shutting down"))), None))
            }
            frame = frames.next() => frame.map(|it| (it, Some((frames, cut)))),
        }
    });
    Response::from_parts(parts, Body::from_stream(frames))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };

    use axum::{http::StatusCode, routing::get};
    use tokio::sync::oneshot;

    use record::{event, field};

    use super::*;
    use crate::{
        access,
        request_log::{
            Arrival, RequestLog,
            tests::{chain_for, seen_of},
        },
    };

    const PATIENCE: Patience = Patience { head: Duration::from_secs(30), grace: Duration::ZERO };

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

    /// The id of the request, and what its client is sent.
    async fn ask(handler: Handler) -> (String, String) {
        let (entered, is_entered) = oneshot::channel();
        let (dropped, is_dropped) = oneshot::channel();
        let once = Arc::new(Mutex::new(Some((entered, Held(Some(dropped))))));
        let handle = move |request: Request| {
            let once = Arc::clone(&once);
            async move {
                let taken = once.lock().unwrap().take();
                let (entered, held) = taken.unwrap();
                let (parts, _) = request.into_parts();
                let mut log = RequestLog::new(Arrival::new(&chain_for(), &parts, "/"));
                entered.send(log.ids().id.clone()).unwrap();
                match handler {
                    Handler::Hangs => {
                        std::future::pending::<()>().await;
                        drop((held, log));
                        Response::new(Body::empty())
                    }
                    Handler::Streams => {
                        log.began(StatusCode::OK);
                        let first = stream::iter([Ok::<_, io::Error>("hello")]);
                        let rest = stream::poll_fn(move |_| {
                            let _held = (&held, &log);
                            std::task::Poll::Pending
                        });
                        Response::new(Body::from_stream(first.chain(rest)))
                    }
                }
            }
        };
        let router =
            Router::new().route("/", get(handle)).layer(middleware::from_fn(access::access));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();

        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let server = tokio::spawn(serve(listener, router, shutdown, PATIENCE));
        let id = is_entered.await.unwrap();
        stop.send(()).unwrap();
        is_dropped.await.unwrap();
        server.await.unwrap().unwrap();

        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        (id, String::from_utf8_lossy(&answer).into_owned())
    }

    /// The answer and the record agree on the id and on the status.
    fn check(handler: Handler, status: &str, expected: &str) {
        let mut asked = (String::new(), String::new());
        let seen = seen_of(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            asked = runtime.block_on(ask(handler));
        });
        let (id, answer) = asked;
        assert!(answer.contains(expected), "{answer}");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(&format!("\r\nx-request-id: {id}\r\n")), "{id}: {answer}");
        // The mark of a complete chunked body.
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");

        let terminal: Vec<_> =
            seen.iter().filter(|it| event::TERMINAL.contains(&it.name.as_str())).collect();
        let [cancelled] = terminal.as_slice() else { panic!("{terminal:?}") };
        assert_eq!(cancelled.name, event::REQUEST_CANCELLED);
        assert_eq!(cancelled.get(field::HTTP_RESPONSE_STATUS_CODE), Some(status));
    }

    #[test]
    fn a_handler_that_hangs_is_dropped_when_the_grace_is_over() {
        check(Handler::Hangs, "503", "shutting_down");
    }

    #[test]
    fn a_stream_that_goes_on_is_dropped_when_the_grace_is_over() {
        check(Handler::Streams, "200", "");
    }
}
