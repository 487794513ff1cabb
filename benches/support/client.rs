//! The real program as a server of its own, and what it takes to ask it: HTTP/1.1 by hand, so that no client's work is measured.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A server in a folder of its own; it ends with this.
pub(crate) struct Server {
    child: Child,
    address: String,
    folder: TempDir,
}

/// A stream that was read to its end.
pub(crate) struct Streamed {
    pub(crate) tokens: usize,
    /// Events with text.
    pub(crate) pieces: usize,
    pub(crate) whole: Duration,
    /// From the first of them to the end.
    pub(crate) after_first: Duration,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether there is a header `retry-after`.
    pub(crate) says_when: bool,
}

impl Server {
    /// Serves a configuration on a port that the system chooses.
    pub(crate) fn start(config: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("bucksaw.toml"), config)?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_bucksaw"))
            .arg("serve")
            .current_dir(folder.path())
            .env_remove("LOG_LEVEL")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut told = String::new();
        let mut lines = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let address = loop {
            let from = told.len();
            if lines.read_line(&mut told)? == 0 {
                return Err(format!("the server did not start: {told}").into());
            }
            let line = &told[from..];
            if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break format!("127.0.0.1:{port}");
            }
        };
        // Whatever it says later must have somewhere to go.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(Self { child, address, folder })
    }

    /// Bytes that are in memory.
    pub(crate) fn resident(&self) -> std::io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap_or_default();
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
        Ok(kilobytes * 1024)
    }

    /// A file in the server's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn health(&self) -> std::io::Result<Duration> {
        let began = Instant::now();
        let mut stream = self.send("GET /health", "")?;
        stream.read_to_end(&mut Vec::new())?;
        Ok(began.elapsed())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> std::io::Result<Answer> {
        let mut text = String::new();
        self.send(&format!("POST {path}"), body)?.read_to_string(&mut text)?;
        let head = text.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
        let status = head.get(9..12).and_then(|it| it.parse().ok()).unwrap_or_default();
        Ok(Answer { status, says_when: head.contains("\r\nretry-after:") })
    }

    /// Reads a stream to its end; its last chunk has the usage.
    pub(crate) fn stream(&self, path: &str, body: &str) -> std::io::Result<Streamed> {
        let began = Instant::now();
        let reader = BufReader::new(self.send(&format!("POST {path}"), body)?);
        let (mut first, mut pieces, mut tokens) = (None, 0, 0);
        for line in reader.lines() {
            let line = line?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data.contains("\"finish_reason\":null") {
                pieces += 1;
                first.get_or_insert_with(Instant::now);
            } else if let Some((_, rest)) = data.split_once("\"completion_tokens\":") {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                tokens = digits.parse().unwrap_or_default();
            }
        }
        let after_first = first.map(|it| it.elapsed()).unwrap_or_default();
        Ok(Streamed { tokens, pieces, whole: began.elapsed(), after_first })
    }

    fn send(&self, what: &str, body: &str) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        let length = body.len();
        let head = format!(
            "{what} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, but after an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
