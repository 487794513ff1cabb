//! A file under a fixed name that others may rotate: it is opened anew when its name leads to another inode, or on request.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use chain::{Line, Sink};

/// Owner reads and writes, group reads: log collectors run in a group of their own.
const MODE: u32 = 0o640;

/// A file sink. Appends whole batches with one write each, so that a reader sees lines at once.
pub struct File {
    path: PathBuf,
    open: Option<fs::File>,
    /// The last write ended inside a line (a full disk): the next one starts on a line of its own.
    torn: bool,
    buffer: Vec<u8>,
}

impl File {
    /// Opens or creates the file.
    ///
    /// # Errors
    /// When the folder is missing, or the name leads to a symbolic link, to something that is no regular file, or to a file of
    /// another user: in a folder that everybody may write to, such a file is a trap.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let open = Some(open(&path)?);
        Ok(Self { path, open, torn: false, buffer: Vec::new() })
    }

    /// Whether the open file is still the one under the name.
    fn is_current(&self) -> bool {
        let open = self.open.as_ref().and_then(|it| it.metadata().ok());
        let named = fs::symlink_metadata(&self.path).ok();
        match (open, named) {
            (Some(open), Some(named)) => open.dev() == named.dev() && open.ino() == named.ino(),
            _ => false,
        }
    }

    fn current(&mut self) -> io::Result<&mut fs::File> {
        if !self.is_current() {
            self.open = None;
            self.torn = false;
        }
        match &mut self.open {
            Some(it) => Ok(it),
            none => Ok(none.insert(open(&self.path)?)),
        }
    }
}

impl Sink for File {
    fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        self.current()?;
        if self.torn {
            buffer.push(b'\n');
        }
        for line in lines {
            buffer.extend_from_slice(line.text().as_bytes());
            buffer.push(b'\n');
        }
        let (written, result) = write_counted(self.current()?, &buffer);
        if written > 0 {
            self.torn = buffer[written - 1] != b'\n';
        }
        self.buffer = buffer;
        result
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.open = None;
        self.current().map(|_| ())
    }
}

/// Writes all of it, or says how much was written before the error.
fn write_counted(file: &mut fs::File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

fn open(path: &Path) -> io::Result<fs::File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        // Never through a link, and never waiting for the reader of a pipe.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => refuse("it is a symbolic link"),
            _ => error,
        })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(refuse("it is not a regular file"));
    }
    if metadata.uid() != effective_user()? {
        return Err(refuse("it belongs to another user"));
    }
    Ok(file)
}

fn refuse(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{why}, and a log is not written through it: remove it or choose another path"),
    )
}

/// The owner of what this process makes: of its own entry in /proc.
fn effective_user() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::Arc};

    use chain::{
        Chain, Ellipsis, Filter, Formatted, Formatter, Output, Overflow, Released, Replacer,
    };
    use chain::{Source, Spec, StageError, Tools};
    use record::{Field, Record, Severity, Stream, Value};

    use super::*;

    struct Message;

    impl Source<dyn Formatter> for Message {
        fn name(&self) -> &str {
            "message"
        }

        fn open(&self) -> Result<Box<dyn Formatter>, StageError> {
            Ok(Box::new(Message))
        }
    }

    impl chain::Stage for Message {}

    impl Formatter for Message {
        fn format(&mut self, batch: &[Released]) -> Result<Formatted, StageError> {
            let mut out = Formatted::default();
            for (index, it) in batch.iter().enumerate() {
                if let Some(Value::Text(text)) = it.get("message") {
                    out.text.push_str(text);
                }
                out.lines.push((index, out.text.len()));
            }
            Ok(out)
        }
    }

    /// Lines can only come out of a chain, so the test has one.
    fn log(file: File, steps: &mut dyn FnMut(&mut dyn FnMut(&str))) {
        let output =
            Output::start("test", Filter::default(), Overflow::Block, Box::new(file)).unwrap();
        let spec = Spec {
            name: "test".into(),
            editors: vec![],
            handlers: vec![],
            outputs: vec![(Arc::new(Message), vec![output.clone()])],
            shadow: None,
        };
        let replacer = Replacer::new(Ellipsis::Korean, b"");
        let clock = Arc::new(|| (0, 0));
        let mut chain = Chain::new(&spec, Tools { replacer, clock, stats: Arc::default() });
        let mut count = 0;
        steps(&mut |text| {
            count += 1;
            chain.run(vec![Record {
                time: 0,
                utc_offset: 0,
                severity: Severity::INFO,
                event: "log".into(),
                stream: Stream::App,
                context: None,
                seq: 0,
                stub: None,
                fields: vec![Field::new("message", text)],
            }]);
            while output.counts() != (count, 0) {
                std::thread::yield_now();
            }
        });
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        assert!(output.close(deadline));
    }

    #[test]
    fn follows_its_name_through_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let rotated = folder.path().join("app.log.1");
        log(File::open(&path).unwrap(), &mut |write| {
            write("one");
            fs::rename(&path, &rotated).unwrap();
            write("two");
            fs::remove_file(&path).unwrap();
            write("three");
        });
        assert_eq!(fs::read_to_string(&rotated).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn refuses_traps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let target = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let error = File::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert!(!target.exists());
        assert!(File::open(folder.path()).is_err());
        assert!(File::open(folder.path().join("missing/app.log")).is_err());
    }
}
