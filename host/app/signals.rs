//! What the operating system may ask for: to end (SIGTERM, SIGINT), or to open log files anew (SIGHUP).

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process is asked to end.
///
/// # Errors
/// When a handler cannot be installed.
pub(crate) fn shutdown() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Calls `reopen` at each SIGHUP, for as long as the runtime lives.
///
/// # Errors
/// When the handler cannot be installed.
pub(crate) fn on_hangup(reopen: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reopen();
        }
    });
    Ok(())
}
