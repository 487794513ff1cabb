//! Alert channels that post JSON to a webhook: bounded, deduplicated, limited in rate, each on a thread of its own.

use std::{
    collections::HashMap,
    io,
    sync::Mutex,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use chain::{Alert, AlertError, Alerts};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use serde_json::json;

/// Alerts that wait for a slow webhook; more than a person reads.
const QUEUE_MAX: usize = 256;
/// Distinct keys within one window; a plugin that makes up keys can't make the table grow without end.
const KEYS_MAX: usize = 1024;
const TIMEOUT: Duration = Duration::from_secs(5);
/// Tries of one post, with a pause that doubles from a quarter of a second.
const TRIES: u32 = 3;

/// One channel of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub name: String,
    /// Where to post. It may hold a secret, so it is never repeated.
    pub url: String,
    /// Alerts with one key are sent once in this time; a count of the others follows when it is over.
    pub window: Duration,
    /// Posts in a minute, at most; alerts over it are dropped and counted.
    pub per_minute: u32,
}

/// All channels.
pub struct Webhooks(HashMap<String, Running>);

struct Running {
    queue: Mutex<Option<Sender<Alert>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Webhooks {
    /// Starts a thread for each channel.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(channels: Vec<Channel>) -> io::Result<Self> {
        let start = |channel: Channel| {
            let (sender, receiver) = bounded(QUEUE_MAX);
            let name = channel.name.clone();
            let thread = thread::Builder::new()
                .name(format!("alert-{name}"))
                .spawn(move || Poster::new(channel).run(&receiver))?;
            let running =
                Running { queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) };
            Ok((name, running))
        };
        channels.into_iter().map(start).collect::<io::Result<_>>().map(Self)
    }

    /// Posts what waits, and ends the threads; a webhook that does not answer is left behind at the deadline.
    pub fn close(&self, deadline: Instant) {
        for running in self.0.values() {
            running.queue.lock().unwrap_or_else(|it| it.into_inner()).take();
        }
        for running in self.0.values() {
            let thread = running.thread.lock().unwrap_or_else(|it| it.into_inner()).take();
            while let Some(it) = &thread {
                if it.is_finished() || Instant::now() >= deadline {
                    break;
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

impl Alerts for Webhooks {
    fn send(&self, channel: &str, alert: Alert) -> Result<(), AlertError> {
        let running = self.0.get(channel).ok_or(AlertError::NoChannel)?;
        let queue = running.queue.lock().unwrap_or_else(|it| it.into_inner());
        let Some(queue) = queue.as_ref() else { return Err(AlertError::NoChannel) };
        queue.try_send(alert).map_err(|error| match error {
            TrySendError::Full(_) => AlertError::Full,
            TrySendError::Disconnected(_) => AlertError::NoChannel,
        })
    }
}

/// The thread of one channel.
struct Poster {
    channel: Channel,
    agent: ureq::Agent,
    /// By key: when its window ends, and what was held back since.
    windows: HashMap<String, Window>,
    /// Posts that may still be made in this minute, and when it ends.
    left: u32,
    minute_ends: Instant,
    suppressed: u64,
}

struct Window {
    ends: Instant,
    held: u64,
    last: Alert,
}

impl Poster {
    fn new(channel: Channel) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // A webhook that redirects would be sent the alert's text under another name.
            .max_redirects(0)
            .build();
        let left = channel.per_minute;
        Self {
            channel,
            agent: config.into(),
            windows: HashMap::new(),
            left,
            minute_ends: Instant::now() + Duration::from_secs(60),
            suppressed: 0,
        }
    }

    fn run(mut self, queue: &Receiver<Alert>) {
        loop {
            let next = self.windows.values().map(|it| it.ends).min();
            let wait = next.map_or(TIMEOUT, |it| it.saturating_duration_since(Instant::now()));
            match queue.recv_timeout(wait) {
                Ok(alert) => self.take(alert),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.close_windows(Instant::now());
        }
        // What was held back is worth a last word.
        let end = self.windows.values().map(|it| it.ends).max();
        end.into_iter().for_each(|it| self.close_windows(it));
    }

    fn take(&mut self, alert: Alert) {
        if let Some(window) = self.windows.get_mut(&alert.key) {
            window.held += 1;
            window.last = alert;
            return;
        }
        if self.windows.len() < KEYS_MAX {
            let ends = Instant::now() + self.channel.window;
            self.windows.insert(alert.key.clone(), Window { ends, held: 0, last: alert.clone() });
        }
        self.post(&alert, 1);
    }

    fn close_windows(&mut self, now: Instant) {
        let over: Vec<String> = self
            .windows
            .iter()
            .filter(|(_, it)| it.ends <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            if let Some(window) = self.windows.remove(&key)
                && window.held > 0
            {
                self.post(&window.last, window.held);
            }
        }
    }

    fn post(&mut self, alert: &Alert, count: u64) {
        if Instant::now() >= self.minute_ends {
            self.left = self.channel.per_minute;
            self.minute_ends = Instant::now() + Duration::from_secs(60);
        }
        if self.left == 0 {
            self.suppressed += count;
            return;
        }
        self.left -= 1;
        let body = json!({
            "source": "bucksaw",
            "channel": self.channel.name,
            "severity": alert.severity.name(),
            "title": alert.title,
            "body": alert.body,
            "count": count,
            "suppressed": self.suppressed,
            // What Slack and its kin show.
            "text": format!("[{}] {}: {}", alert.severity.name(), alert.title, alert.body),
        });
        for attempt in 0..TRIES {
            if self.agent.post(&self.channel.url).send_json(&body).is_ok() {
                self.suppressed = 0;
                return;
            }
            thread::sleep(Duration::from_millis(250 << attempt));
        }
        self.suppressed += count;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
    };

    use record::Severity;

    use super::*;

    /// Answers `posts` requests and gives their bodies.
    fn receiver(posts: usize) -> (String, JoinHandle<Vec<serde_json::Value>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let thread = thread::spawn(move || {
            (0..posts)
                .map(|_| {
                    let mut reader = BufReader::new(listener.accept().unwrap().0);
                    let mut length = 0;
                    loop {
                        let mut line = String::new();
                        reader.read_line(&mut line).unwrap();
                        let line = line.trim().to_lowercase();
                        if let Some(it) = line.strip_prefix("content-length:") {
                            length = it.trim().parse().unwrap();
                        }
                        if line.is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let answer =
                        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    reader.get_mut().write_all(answer).unwrap();
                    serde_json::from_slice(&body).unwrap()
                })
                .collect()
        });
        (url, thread)
    }

    #[test]
    fn one_key_is_posted_once_and_then_counted() {
        let (url, thread) = receiver(3);
        let window = Duration::from_secs(3600);
        let channel = Channel { name: "ops".into(), url, window, per_minute: 10 };
        let hooks = Webhooks::start(vec![channel]).unwrap();
        let alert = |key: &str| Alert {
            key: key.into(),
            severity: Severity::ERROR,
            title: key.into(),
            body: "b".into(),
        };
        for key in ["a", "a", "a", "b"] {
            hooks.send("ops", alert(key)).unwrap();
        }
        assert_eq!(hooks.send("nobody", alert("a")), Err(AlertError::NoChannel));
        hooks.close(Instant::now() + Duration::from_secs(30));
        let posted: Vec<_> = thread
            .join()
            .unwrap()
            .iter()
            .map(|it| (it["title"].as_str().unwrap().to_owned(), it["count"].as_u64().unwrap()))
            .collect();
        assert_eq!(posted, [("a".into(), 1), ("b".into(), 1), ("a".into(), 2)]);
    }
}
