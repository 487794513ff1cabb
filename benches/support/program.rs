//! The real program as a server of its own, in a folder of its own and on the loopback.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A server in a folder of its own; it ends with this.
pub(crate) struct Server {
    child: Child,
    address: String,
    folder: TempDir,
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
        let status = fs::read_to_string(format!("{}/status", self.process()))?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap_or_default();
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
        Ok(kilobytes * 1024)
    }

    /// A file in the server's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the system tells of the process (Linux).
    pub(crate) fn process(&self) -> String {
        format!("/proc/{}", self.child.id())
    }

    pub(crate) fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
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
