//! The `tracing` events of a pool: what the log makes records of. They belong to the server and to no request.

use crate::breaker::Shift;

pub(crate) fn shifted(upstream: &str, shift: Shift) {
    match shift {
        Shift::Ejected(why, pause) => {
            let why = why.word();
            let until = match pause {
                Some(pause) => format!("for {} s", pause.as_secs()),
                None => "until it is healthy".to_owned(),
            };
            tracing::warn!(
                target: "bucksaw",
                parent: None,
                event = "upstream.ejected",
                bucksaw.upstream.name = upstream,
                bucksaw.upstream.reason = why,
                bucksaw.upstream.pause_ms = pause.map(|it| it.as_secs_f64() * 1e3),
                bucksaw.notice = format!("upstream {upstream} is left alone {until} ({why})"),
            );
        }
        Shift::Restored => tracing::info!(
            target: "bucksaw",
            parent: None,
            event = "upstream.restored",
            bucksaw.upstream.name = upstream,
            bucksaw.notice = format!("upstream {upstream} is asked again"),
        ),
    }
}
