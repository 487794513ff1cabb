//! The plugin, and which event has which lines.

use std::cell::Cell;

use sdk::{
    Description, Diagnostic, Formatter, Lines, Plugin, RecordView, Setup,
    clock::{self, Stamp},
    severity,
};

use crate::{Config, LineSet, Metrics, config, request, server, words::Words, writer::Writer};

pub struct Guide {
    config: Config,
    words: &'static Words,
    /// The last second that was written, and how: records come close together.
    last: Cell<(i64, Stamp)>,
}

impl Plugin for Guide {
    type Config = Config;

    fn description() -> Description {
        sdk::describe!("Writes the lines of the logging guide.", config::SCHEMA)
    }

    fn configure(config: Config) -> Result<(Self, Setup), Vec<Diagnostic>> {
        let last = Cell::new((0, clock::stamp(0, b' ')));
        let plugin = Self { config, words: Words::of(config.locale), last };
        Ok((plugin, Setup { reads: vec!["*".to_owned()], ..Setup::default() }))
    }
}

impl Formatter for Guide {
    fn format(&self, record: RecordView<'_>, lines: &mut Lines) {
        let info = severity::level(record.severity()) == 1;
        let of_request = !record.request_id().is_empty();
        let full = self.config.lines == LineSet::Full || !info || !of_request;
        let mut writer = Writer {
            record,
            words: self.words,
            full,
            one_line: self.config.metrics == Metrics::Line,
            stamp: self.stamp(record),
            lines,
        };
        let writer = &mut writer;
        match record.event() {
            "request.received" => request::received(writer),
            "request.prompt" => request::prompt(writer),
            "request.image" => request::image(writer),
            "request.params" => request::params(writer),
            "lora.resolved" => request::lora(writer),
            "gpu.memory" => request::gpu_memory(writer),
            "generation.first_token" if full => request::first_token(writer),
            "response.content" => request::response(writer),
            "response.json_parse" if full => request::json_parse(writer),
            "request.performance" => request::performance(writer),
            "request.finished" => request::finished(writer),
            "request.failed" => request::failed(writer),
            "request.cancelled" => request::cancelled(writer),
            "request.rejected" => request::rejected(writer),
            "request.total" => request::total(writer),
            // One wide record for structured outputs: all of it has been said.
            "request.summary" => {}
            _ if !full => {}
            "log.dropped" => server::dropped(writer),
            "plugin.failed" | "plugin.trapped" => server::plugin_failed(writer),
            "plugin.opened" => server::plugin_opened(writer),
            "server.started" => server::notice(writer, self.words.server_started),
            "server.stopped" => server::notice(writer, self.words.server_stopped),
            _ if record.text("bucksaw.notice").is_some() => server::notice(writer, ""),
            _ => server::other(writer),
        }
    }
}

impl Guide {
    fn stamp(&self, record: RecordView<'_>) -> Stamp {
        let seconds = clock::local_seconds(record.time(), record.utc_offset());
        let (last, stamp) = self.last.get();
        if last == seconds {
            return stamp;
        }
        let stamp = clock::stamp(seconds, b' ');
        self.last.set((seconds, stamp));
        stamp
    }
}
