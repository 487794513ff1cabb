//! Clients of every kind: patient ones, those that leave, those that are wrong, and crowds.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{ledger::Ledger, program::Server};

pub(crate) const CLIENTS: usize = 8;

/// Of those that the demo model knows, the small ones.
const PICTURES: [&str; 4] = [
    "digit-seven.png",
    "four-green-triangles.png",
    "one-yellow-square.png",
    "two-orange-triangles.png",
];

/// A server that says nothing for so long is stuck.
const SILENCE: Duration = Duration::from_secs(60);

const CHAT: &str = "/v1/chat/completions";
/// The one that makes no records.
const TOKENIZE: &str = "/tokenize";

/// Some with what the log must not show.
const BEGINNINGS: [&str; 6] = [
    "Hello!",
    "What is in the image?",
    "How many circles are there?",
    "이미지에 무엇이 있나요?",
    "Write to kim.minsu@example.co.kr, please.",
    "My card is 4111 1111 1111 1111.",
];

struct Kind {
    name: &'static str,
    /// How often it comes, against the others.
    weight: usize,
    /// How many are sent before an answer is read.
    at_once: usize,
    make: fn(&mut Random, &[String]) -> Ask,
}

const fn kind(
    name: &'static str,
    weight: usize,
    at_once: usize,
    make: fn(&mut Random, &[String]) -> Ask,
) -> Kind {
    Kind { name, weight, at_once, make }
}

static KINDS: [Kind; 12] = [
    kind("short", 30, 1, short),
    kind("stream", 8, 1, stream),
    kind("stream that is left", 8, 1, left_stream),
    kind("answer that is left", 8, 1, left_answer),
    kind("adapter", 10, 1, adapter),
    kind("image", 10, 1, image),
    kind("two answers", 8, 1, two),
    kind("embeddings", 8, 1, embeddings),
    kind("tokenize", 5, 1, tokenize),
    kind("bad", 5, 1, bad),
    kind("unknown model", 5, 1, unknown),
    // More than the engine has places for.
    kind("crowd", 1, 40, crowd),
];

struct Ask {
    path: &'static str,
    body: Value,
    stays: Stays,
}

/// How long a client waits.
enum Stays {
    ToTheEnd,
    /// Until so much of the answer has come.
    ForBytes(usize),
    /// Reads nothing at all.
    For(Duration),
}

/// What became of a request, on its client's side.
struct Heard {
    status: Option<u16>,
    how: &'static str,
}

/// Numerical Recipes' linear congruential generator: enough to mix requests, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

pub(crate) struct Traffic<'a> {
    server: &'a Server,
    ledger: &'a Ledger,
    /// As `data:` URLs.
    pictures: Vec<String>,
    tally: Mutex<BTreeMap<(&'static str, String), u64>>,
    /// Answers that are the server's fault, or are none.
    pub(crate) failed: AtomicU64,
    /// Requests on which the server was silent for [`SILENCE`].
    pub(crate) stuck: AtomicU64,
    /// Nobody goes on once the run can't.
    pub(crate) broken: AtomicBool,
}

impl<'a> Traffic<'a> {
    pub(crate) fn new(server: &'a Server, ledger: &'a Ledger) -> io::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo-model/pictures");
        let picture = |name: &str| -> io::Result<String> {
            let bytes = fs::read(folder.join(name))?;
            Ok(format!("data:image/png;base64,{}", base64(&bytes)))
        };
        let pictures = PICTURES.into_iter().map(picture).collect::<io::Result<_>>()?;
        Ok(Self {
            server,
            ledger,
            pictures,
            tally: Mutex::default(),
            failed: AtomicU64::new(0),
            stuck: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        })
    }

    /// One client after another, in the same seat.
    pub(crate) fn clients(&self, seat: usize, until: Instant) -> io::Result<()> {
        let mut random = Random(seat as u64);
        let mut turn = seat;
        while Instant::now() < until && !self.broken.load(Relaxed) {
            // Each kind comes once at the beginning, however short the run is.
            let kind = KINDS.get(turn).unwrap_or_else(|| pick(&mut random));
            turn += CLIENTS;
            let asks: Vec<Ask> =
                (0..kind.at_once).map(|_| (kind.make)(&mut random, &self.pictures)).collect();
            let opened: io::Result<Vec<_>> = asks.iter().map(|it| self.open(it)).collect();
            for ((stream, id), ask) in opened?.into_iter().zip(&asks) {
                let heard = hear(stream, &ask.stays);
                if let Some(id) = id {
                    self.ledger.done(id, heard.status.is_some());
                }
                self.count(kind.name, &heard);
            }
            thread::sleep(Duration::from_millis(random.below(40) as u64));
        }
        Ok(())
    }

    /// Sends a request, with an id where it makes records. Only a server that is gone takes no connection.
    fn open(&self, ask: &Ask) -> io::Result<(TcpStream, Option<Uuid>)> {
        let mut stream = self.server.connect()?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let id = (ask.path != TOKENIZE).then(|| self.ledger.send());
        let header = id.map(|it| format!("x-request-id: {it}\r\n")).unwrap_or_default();
        let (path, body) = (ask.path, ask.body.to_string());
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n{header}\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        // Where this fails, there is no answer either.
        let _ = stream.write_all(request.as_bytes());
        Ok((stream, id))
    }

    fn count(&self, kind: &'static str, heard: &Heard) {
        let is_broken = ["broken", "silent"].contains(&heard.how);
        if is_broken || heard.status.is_some_and(|it| it >= 500) {
            self.failed.fetch_add(1, Relaxed);
        }
        if heard.how == "silent" {
            self.stuck.fetch_add(1, Relaxed);
        }
        let what = match (heard.status, heard.how) {
            (Some(status), "") => status.to_string(),
            (Some(status), how) => format!("{status} {how}"),
            (None, how) => how.to_owned(),
        };
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        *tally.entry((kind, what)).or_default() += 1;
    }

    /// A line a kind: how many there were, and what they were told.
    pub(crate) fn told(&self) -> String {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for Kind { name, .. } in &KINDS {
            let (mut all, mut each) = (0, Vec::new());
            for ((kind, what), count) in tally.iter() {
                if kind == name {
                    all += *count;
                    each.push(format!("{count} x {what}"));
                }
            }
            text.push_str(&format!("  {name}: {all} ({})\n", each.join(", ")));
        }
        text
    }
}

fn pick(random: &mut Random) -> &'static Kind {
    let mut left = random.below(KINDS.iter().map(|it| it.weight).sum());
    let at = KINDS.iter().position(|it| {
        let is_it = left < it.weight;
        left = left.saturating_sub(it.weight);
        is_it
    });
    &KINDS[at.unwrap_or_default()]
}

/// Reads for as long as the client stays.
fn hear(mut stream: TcpStream, stays: &Stays) -> Heard {
    let most = match stays {
        Stays::ToTheEnd => usize::MAX,
        Stays::ForBytes(count) => *count,
        Stays::For(time) => {
            thread::sleep(*time);
            return Heard { status: None, how: "left" };
        }
    };
    // As far as the status: `HTTP/1.1 200`.
    let (mut head, mut count, mut chunk) = (Vec::<u8>::new(), 0, [0; 4096]);
    let how = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break "",
            Ok(more) => {
                head.extend(chunk[..more].iter().take(12_usize.saturating_sub(head.len())));
                count += more;
                if count >= most {
                    break "left";
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break "silent",
            Err(_) => break "broken",
        }
    };
    let text = String::from_utf8_lossy(&head);
    let status: Option<u16> = text.get(9..12).and_then(|it| it.parse().ok());
    // An end without an answer is no good one.
    Heard { status, how: if status.is_none() && how.is_empty() { "broken" } else { how } }
}

fn text(random: &mut Random) -> String {
    let beginning = BEGINNINGS[random.below(BEGINNINGS.len())];
    let more = "There is a red circle. ".repeat(random.below(20));
    format!("{beginning} {more}{}", random.below(1_000))
}

fn chat(content: impl Into<Value>, more: Value) -> Ask {
    let content: Value = content.into();
    let mut body = json!({"messages": [{"role": "user", "content": content}]});
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    Ask { path: CHAT, body, stays: Stays::ToTheEnd }
}

fn short(random: &mut Random, _: &[String]) -> Ask {
    chat(text(random), json!({"max_tokens": 4 + random.below(20), "temperature": 0}))
}

fn stream(random: &mut Random, _: &[String]) -> Ask {
    let tokens = 200 + random.below(600);
    let more = json!({"stream": true, "max_tokens": tokens, "ignore_eos": true, "temperature": 1});
    chat(text(random), more)
}

fn left_stream(random: &mut Random, pictures: &[String]) -> Ask {
    // A token is some 200 bytes here: most leave before the end, some before the first one.
    let stays = Stays::ForBytes(100 + random.below(10_000));
    Ask { stays, ..stream(random, pictures) }
}

fn left_answer(random: &mut Random, _: &[String]) -> Ask {
    let stays = Stays::For(Duration::from_millis(1 + random.below(60) as u64));
    Ask { stays, ..chat(text(random), json!({"max_tokens": 600, "ignore_eos": true})) }
}

fn adapter(random: &mut Random, _: &[String]) -> Ask {
    let is_stream = random.below(2) == 0;
    chat(text(random), json!({"model": "demo-ko", "max_tokens": 16, "stream": is_stream}))
}

fn image(random: &mut Random, pictures: &[String]) -> Ask {
    let url = &pictures[random.below(pictures.len())];
    let content = json!([
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": text(random)},
    ]);
    chat(content, json!({"max_tokens": 16}))
}

fn two(random: &mut Random, _: &[String]) -> Ask {
    chat(text(random), json!({"n": 2, "temperature": 1, "max_tokens": 16}))
}

fn embeddings(random: &mut Random, _: &[String]) -> Ask {
    let body = json!({"input": [text(random), text(random)]});
    Ask { path: "/v1/embeddings", body, stays: Stays::ToTheEnd }
}

fn tokenize(random: &mut Random, _: &[String]) -> Ask {
    Ask { path: TOKENIZE, body: json!({"prompt": text(random)}), stays: Stays::ToTheEnd }
}

fn bad(random: &mut Random, _: &[String]) -> Ask {
    chat(text(random), json!({"max_tokens": "many"}))
}

fn unknown(random: &mut Random, _: &[String]) -> Ask {
    chat(text(random), json!({"model": "nobody"}))
}

fn crowd(random: &mut Random, _: &[String]) -> Ask {
    chat(text(random), json!({"max_tokens": 32, "ignore_eos": true}))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let six = (bits >> (18 - 6 * at)) & 0x3f;
            text.push(if at > chunk.len() { '=' } else { char::from(ALPHABET[six as usize]) });
        }
    }
    text
}
