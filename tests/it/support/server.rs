//! `bucksaw serve` as a user starts it: a process with a configuration file, in a folder that goes with the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use ureq::Agent;

use super::{Config, eventually};

const CONFIG: &str = "test.toml";
/// A request of the demo model takes some milliseconds; this is for machines that do much else.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The program in a folder, with none of the variables that the tests' own surroundings may have set.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bucksaw"));
    command
        .current_dir(folder)
        .env_remove("LOG_LEVEL")
        .env_remove("NO_COLOR")
        .env("CANDLE_NUM_THREADS", "1")
        .env("TMPDIR", folder)
        // One for all tests, and not the user's own.
        .env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"))
        .stdin(Stdio::null());
    command
}

/// A server that serves. It is ended with the test, whether [`Server::stop`] was called or not.
pub(crate) struct Server {
    folder: TempDir,
    child: Child,
    address: String,
    pub(super) agent: Agent,
}

impl Server {
    pub(crate) fn start(config: &Config) -> Self {
        Self::start_with(config, &[])
    }

    pub(crate) fn start_with(config: &Config, variables: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config, variables)
    }

    /// In a folder that may hold files already.
    pub(crate) fn start_in(folder: TempDir, config: &Config, variables: &[(&str, &str)]) -> Self {
        fs::write(folder.path().join(CONFIG), config.text()).unwrap();
        let child = program(folder.path())
            .args(["serve", "--config", CONFIG])
            .envs(variables.iter().copied())
            .stdout(File::create(folder.path().join("stdout")).unwrap())
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .build()
            .new_agent();
        let mut server = Self { folder, child, address: String::new(), agent };
        server.address = eventually("the server to listen", || {
            let said = server.stderr();
            let address = address(&said);
            if address.is_none()
                && let Some(status) = server.child.try_wait().unwrap()
            {
                panic!("the server did not start ({status}): {said}\n{}", config.text());
            }
            address
        });
        server
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Puts another configuration in the place of the server's own.
    pub(crate) fn configure(&self, text: &str) {
        self.replace(CONFIG, text.as_bytes());
    }

    /// Puts a file into the server's folder as deployments do: whole, in the place of the one that has the name already.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) {
        let next = self.path(&format!("{name}.next"));
        fs::write(&next, bytes).unwrap();
        fs::rename(next, self.path(name)).unwrap();
    }

    /// Runs another command of the program, to its end, with the server's configuration.
    pub(crate) fn command(&self, name: &str) -> Output {
        self.command_with(name, &[])
    }

    pub(crate) fn command_with(&self, name: &str, arguments: &[&str]) -> Output {
        let mut command = program(self.folder.path());
        command.args([name, "--config", CONFIG]).args(arguments).output().unwrap()
    }

    /// A file in the server's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The text of a file in the server's folder; what the program writes is UTF-8.
    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8(fs::read(self.path(name)).unwrap()).unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        self.read("stdout")
    }

    pub(crate) fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// Sends a signal by its short name: `TERM`, `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([format!("-{name}"), id]).status().unwrap();
        assert!(status.success(), "the server has ended already: {}", self.stderr());
    }

    /// SIGTERM, and an orderly end: exit code 0, and nothing of the log lost.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        self.wait();
    }

    /// Waits for the orderly end of a server that was sent SIGTERM.
    pub(crate) fn wait(&mut self) {
        let child = &mut self.child;
        let status = eventually("the server to end", || child.try_wait().unwrap());
        let said = self.stderr();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.ends_with("records, all written\n"), "{said}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After an orderly end there is nobody left to kill, and the error says so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in what the server says when it starts.
fn address(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("listening  http://")?;
    let (address, _) = rest.split_once('\n')?;
    Some(address.to_owned())
}
