//! Alert channels: what a handler may use to reach people. Implementations hold addresses and secrets; handlers never see them.

use record::Severity;

/// One alert, as a handler words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Alerts of one channel with the same key are sent once within the channel's window, with a count.
    pub key: String,
    pub severity: Severity,
    pub title: String,
    pub body: String,
}

/// The channels of a configuration.
pub trait Alerts: Send + Sync {
    /// Queues an alert. Never waits.
    ///
    /// # Errors
    /// When there is no such channel, or its queue is full.
    fn send(&self, channel: &str, alert: Alert) -> Result<(), AlertError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlertError {
    #[error("there is no such alert channel")]
    NoChannel,
    #[error("the alert channel's queue is full")]
    Full,
}

/// No channels at all.
impl Alerts for () {
    fn send(&self, _channel: &str, _alert: Alert) -> Result<(), AlertError> {
        Err(AlertError::NoChannel)
    }
}
