//! The plugin.

use sdk::{
    Alerts, Description, Diagnostic, Handler, Plugin, RecordView, Sent, Setup, clock, severity,
};

use crate::{Config, config, rule::Rule, title};

/// The answer when a rule names a channel that is not there or not granted.
const NO_CHANNEL: u32 = 1;

#[derive(Debug)]
pub struct Alert {
    rules: Vec<Rule>,
}

impl Plugin for Alert {
    type Config = Config;

    fn description() -> Description {
        sdk::describe!("Sends alerts about records, by rules.", config::SCHEMA)
    }

    fn configure(config: Config) -> Result<(Self, Setup), Vec<Diagnostic>> {
        let rules = config.into_rules()?;
        let reads = [title::ERROR, title::ROUTE, title::STATUS, title::PLUGIN, title::PLUGIN_ERROR];
        let reads = reads.map(str::to_owned).to_vec();
        Ok((Self { rules }, Setup { reads, ..Setup::default() }))
    }
}

impl Handler for Alert {
    fn handle(&mut self, record: RecordView<'_>, alerts: &mut impl Alerts) -> Result<(), u32> {
        let mut result = Ok(());
        for rule in self.rules.iter().filter(|it| it.fits(record)) {
            let alert = sdk::Alert {
                key: [rule.name.as_str(), record.event(), title::error(record)].join(":"),
                severity: record.severity(),
                title: rule.title.render(&rule.name, record),
                body: body(record),
            };
            // A full queue is the host's to count: the alerts that fill it say the same.
            if alerts.send(&rule.channel, alert) == Sent::NoChannel {
                result = Err(NO_CHANNEL);
            }
        }
        result
    }
}

/// What is known about the record, a line each.
fn body(record: RecordView<'_>) -> String {
    let mut out = String::with_capacity(256);
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(name);
            out.push_str(": ");
            out.push_str(value);
            out.push('\n');
        }
    };
    let mut time = String::with_capacity(32);
    clock::push_stamp(&mut time, &clock::stamp(clock::local_seconds(record.time(), 0), b'T'));
    time.push('Z');
    line("event", record.event());
    line("severity", severity::name(record.severity()));
    line("time", &time);
    line("request", record.request_id());
    line("route", record.text(title::ROUTE).unwrap_or_default());
    line("error", record.text(title::ERROR).unwrap_or_default());
    if let Some(status) = record.int(title::STATUS) {
        line("status", &status.to_string());
    }
    line("plugin", record.text(title::PLUGIN).unwrap_or_default());
    line("plugin error", record.text(title::PLUGIN_ERROR).unwrap_or_default());
    out
}
