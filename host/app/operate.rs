//! `bucksaw reload`, `bucksaw rollback`, `bucksaw state` and `bucksaw level`: what is asked of a running server, at the admin address of its
//! configuration. It knows the form of the answers, and nothing of what the server does for them.

#[cfg(test)]
mod tests;

use std::{
    io::{Write as _, stdout},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    builtin, cli,
    config::{Admin, Config, Problem, Problems},
    env::Vars,
    load::{Invalid, Source},
};

/// A server of this machine or the next one answers in milliseconds, or is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// A change compiles every plugin, and may run 100,000 records through each chain: minutes, where all of that is slow.
const ANSWER: Duration = Duration::from_secs(15 * 60);
/// A state with thousands of plugins is smaller.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Makes the server read its configuration and plugins again, and says what came of it.
///
/// # Errors
/// When there is no admin address, nobody answers there, or the change was refused, with every problem.
pub fn reload(args: &cli::Operate) -> Result<()> {
    change(args, &Wish::Reload)
}

/// Takes the server's log back to the revision before, and says which one is in force.
///
/// # Errors
/// As [`reload`]; there may be no revision before.
pub fn rollback(args: &cli::Operate) -> Result<()> {
    change(args, &Wish::Rollback)
}

/// Prints the state of the server's log as JSON.
///
/// # Errors
/// When there is no admin address, or nobody answers there.
pub fn state(args: &cli::Operate) -> Result<()> {
    let answer = ask(&admin(&args.file)?, &Wish::State)?;
    say(&format!("{}\n", serde_json::to_string_pretty(&answer)?))
}

/// Sets a level of the server's log, and says which ones are in force.
///
/// # Errors
/// When there is no admin address, nobody answers there, or it is no level.
pub fn level(args: &cli::Level) -> Result<()> {
    let mut wish = json!({"level": args.level});
    if let Some(stream) = &args.stream {
        wish["stream"] = json!(stream);
    }
    if let Some((name, value)) = &args.header {
        wish["header"] = json!({"name": name, "value": value});
    }
    let admin = admin(&args.file)?;
    let levels: Levels = serde_json::from_value(ask(&admin, &Wish::Level(wish))?)
        .map_err(|_| Failure::Stranger { address: address(&admin), status: 200 })?;
    say(&levels.text())
}

/// What may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    State,
    Reload,
    Rollback,
    Level(Value),
}

impl Wish {
    fn path(&self) -> &'static str {
        match self {
            Self::State => "/admin/state",
            Self::Reload => "/admin/reload",
            Self::Rollback => "/admin/rollback",
            Self::Level(_) => "/admin/level",
        }
    }
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "no answer from {address}: {error}: start the server, or set admin.listen to the address that it has"
    )]
    Silent { address: String, error: Box<ureq::Error> },
    #[error(
        "the server at {address} has another key: admin.key takes effect when the server is started"
    )]
    WrongKey { address: String },
    #[error("nothing was changed:{}", list(.0))]
    Refused(Vec<String>),
    #[error("the server at {address} answers {status}: {message}")]
    Failed { address: String, status: u16, message: String },
    #[error(
        "what answers at {address} (with status {status}) is not the admin address of bucksaw: set admin.listen"
    )]
    Stranger { address: String, status: u16 },
}

fn list(problems: &[String]) -> String {
    problems.iter().map(|it| format!("\n  {it}")).collect()
}

/// What a change came to.
#[derive(Debug, Deserialize)]
struct Changed {
    /// A rollback that changes nothing is refused, so only a reload says it.
    #[serde(default = "yes")]
    changed: bool,
    /// The revision that is in force.
    revision: u64,
    /// The one before.
    previous: Option<u64>,
    /// Keys that have changed and take effect when the server is started.
    #[serde(default)]
    at_next_start: Vec<String>,
}

fn yes() -> bool {
    true
}

impl Changed {
    fn text(&self) -> String {
        let mut text = match (self.changed, self.previous) {
            (false, _) => "nothing has changed\n".to_owned(),
            (true, None) => format!("revision {} is in force\n", self.revision),
            (true, Some(before)) => {
                format!("revision {} is in force (before: {before})\n", self.revision)
            }
        };
        if !self.at_next_start.is_empty() {
            text += &format!("at the next start: {}\n", self.at_next_start.join(", "));
        }
        text
    }
}

/// The levels in force.
#[derive(Debug, Deserialize)]
struct Levels {
    app: String,
    engine: String,
    headers: Vec<HeaderLevel>,
}

#[derive(Debug, Deserialize)]
struct HeaderLevel {
    name: String,
    value: String,
    level: String,
}

impl Levels {
    fn text(&self) -> String {
        let mut text = format!("app: {}\nengine: {}\n", self.app, self.engine);
        for HeaderLevel { name, value, level } in &self.headers {
            text += &format!("requests with {name}: {value:?}: {level}\n");
        }
        text
    }
}

fn change(args: &cli::Operate, wish: &Wish) -> Result<()> {
    let admin = admin(&args.file)?;
    let answer = ask(&admin, wish)?;
    let changed: Changed = serde_json::from_value(answer)
        .map_err(|_| Failure::Stranger { address: address(&admin), status: 200 })?;
    say(&changed.text())
}

/// The configuration that ships, with the file's own `[admin]`: going back must work when the rest of the file is what went
/// wrong.
fn only_admin(text: &str) -> String {
    let table = |text: &str| text.parse::<toml::Table>();
    // A file that is no TOML is reported when it is parsed as a configuration.
    let (Ok(mut own), Ok(mut ships)) = (table(text), table(builtin::CONFIG)) else {
        return text.to_owned();
    };
    ships.remove("admin");
    // Whatever address the server has, it is not to be held against the admin address here.
    ships.insert(
        "server".to_owned(),
        toml::Table::from_iter([("listen".to_owned(), "127.0.0.1:0".into())]).into(),
    );
    ships.extend(own.remove("admin").map(|it| ("admin".to_owned(), it)));
    toml::to_string(&ships).unwrap_or_else(|_| text.to_owned())
}

/// The admin address of the configuration, and its key.
fn admin(file: &cli::File) -> Result<Admin> {
    let vars = Vars::load(Path::new("."))?;
    let mut source = Source::find(file)?;
    source.text = only_admin(&source.text);
    let config = source.parse(&vars)?;
    admin_of(config)
        .map_err(|problem| Invalid { name: source.name, problems: Problems(vec![problem]) }.into())
}

fn admin_of(config: Config) -> Result<Admin, Problem> {
    let problem =
        |key: &str, message: &str| Problem { key: key.to_owned(), message: message.to_owned() };
    let Some(admin) = config.admin else {
        let message = "missing, so nothing can be asked of the server: add these two lines, set ADMIN_KEY to what openssl \
                       rand -hex 16 prints, and start the server again\n\n    [admin]\n    key = \"${ADMIN_KEY}\"";
        return Err(problem("admin", message));
    };
    if admin.listen.port() == 0 {
        let message = "with port 0 the system chooses one that nobody else knows: write a port";
        return Err(problem("admin.listen", message));
    }
    Ok(admin)
}

/// The answer of the server, which did what it was asked.
fn ask(admin: &Admin, wish: &Wish) -> Result<Value, Failure> {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(ANSWER))
        .http_status_as_error(false)
        // The key is for this address and for nobody on the way.
        .max_redirects(0)
        .proxy(None)
        .build();
    let agent: ureq::Agent = config.into();
    let address = address(admin);
    let url = format!("{address}{}", wish.path());
    let key = format!("Bearer {}", admin.key);
    let answer = match wish {
        Wish::State => agent.get(&url).header("authorization", &key).call(),
        Wish::Reload | Wish::Rollback => {
            agent.post(&url).header("authorization", &key).send_empty()
        }
        Wish::Level(body) => agent.post(&url).header("authorization", &key).send_json(body),
    };
    let silent = |error| Failure::Silent { address: address.clone(), error: Box::new(error) };
    let mut answer = answer.map_err(silent)?;
    let status = answer.status().as_u16();
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    let body = body.map_err(silent)?;
    judge(address, status, &body)
}

fn judge(address: String, status: u16, body: &[u8]) -> Result<Value, Failure> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    if status == 200 && body.is_object() {
        return Ok(body);
    }
    let error = &body["error"];
    let text = |it: &Value| it.as_str().map(str::to_owned);
    match (status, error["code"].as_str()) {
        (401, Some("invalid_api_key")) => Err(Failure::WrongKey { address }),
        (_, Some("change_refused")) => {
            let problems = error["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
            Err(Failure::Refused(problems.iter().filter_map(text).collect()))
        }
        (_, Some(_)) => {
            let message = text(&error["message"]).unwrap_or_default();
            Err(Failure::Failed { address, status, message })
        }
        _ => Err(Failure::Stranger { address, status }),
    }
}

/// For people and for requests: `http://127.0.0.1:8001`.
fn address(admin: &Admin) -> String {
    let port = admin.listen.port();
    // A server that listens on every address of its machine is reached on the machine's own.
    let ip = match admin.listen.ip() {
        IpAddr::V4(it) if it.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(it) if it.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    format!("http://{}", SocketAddr::new(ip, port))
}

fn say(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}
