//! The role that reacts to released records.

use crate::{
    Alert, Batch, Plugin, RecordView, Records, bindings::handler::bucksaw::plugin::alerts,
};

/// Alerts, counts: it sees what the editors let through, and changes nothing.
pub trait Handler: Plugin {
    /// Looks at one record. The error is the plugin's own number; the rest of the batch is still handled.
    fn handle(&mut self, record: RecordView<'_>, alerts: &mut impl Alerts) -> Result<(), u32>;
}

/// The host's alert channels, or a stand-in in a test. A handler that never calls `send` has no import and needs no grant.
pub trait Alerts {
    fn send(&mut self, channel: &str, alert: Alert) -> Sent;
}

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Accepted,
    /// There is no such channel, or it is not granted.
    NoChannel,
    /// The channel's queue is full; the host counts it.
    QueueFull,
}

/// The channels that the host lends.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostAlerts;

impl Alerts for HostAlerts {
    fn send(&mut self, channel: &str, alert: Alert) -> Sent {
        match alerts::send(channel, &alert) {
            0 => Sent::Accepted,
            2 => Sent::QueueFull,
            _ => Sent::NoChannel,
        }
    }
}

/// Runs a handler over a batch; the answer is the first error.
pub fn handle_batch<P: Handler>(
    plugin: &mut P,
    batch: &Batch,
    alerts: &mut impl Alerts,
) -> Result<(), u32> {
    let records = Records::new(batch);
    let mut result = Ok(());
    for record in records.iter() {
        let handled = plugin.handle(record, alerts);
        if result.is_ok() {
            result = handled;
        }
    }
    result
}

#[doc(hidden)]
pub fn check<P: Handler>() {}
