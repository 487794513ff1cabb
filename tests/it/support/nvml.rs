//! A library that stands in for NVIDIA's, compiled while the tests run; see `tests/fixtures/nvml`.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use super::repository;

pub(crate) struct Nvml {
    _folder: TempDir,
    path: PathBuf,
}

impl Nvml {
    /// Compiles it with the system's C compiler.
    pub(crate) fn build() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libnvidia-ml.so.1");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o"])
            .arg(&path)
            .arg(repository("tests/fixtures/nvml/fake_nvml.c"))
            .status()
            .unwrap();
        assert!(status.success());
        Self { _folder: folder, path }
    }

    /// What the configuration's table `engine` has to say.
    pub(crate) fn line(&self) -> String {
        format!("nvml_library = {:?}", self.path)
    }
}
