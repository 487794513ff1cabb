//! GPU memory by NVML, or by CUDA where NVML does not know the device. Where there is neither there are no numbers, and the summary
//! says why.

use std::{fmt, path::Path};

use nvml_wrapper::{Nvml, error::NvmlError};

use crate::{
    cuda::Board,
    error::first_line,
    events::{self, GpuMemory, GpuPhase, Reading},
};

/// What was found when the engine started, for one line at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuSummary {
    pub gpus: Vec<GpuInfo>,
    /// Why NVML has none of them. With none at all there are no `gpu.memory` events.
    pub problem: Option<String>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// NVML's name for this very board: `GPU-…`.
    pub id: String,
    pub name: String,
    /// Bytes.
    pub memory: u64,
}

impl fmt::Display for GpuSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finder = match &self.problem {
            Some(problem) if self.gpus.is_empty() => {
                return write!(f, "no GPU memory readings: {problem}");
            }
            Some(_) => "CUDA",
            None => "NVML",
        };
        write!(f, "{finder} found {} GPU", self.gpus.len())?;
        f.write_str(if self.gpus.len() == 1 { "" } else { "s" })?;
        for (index, gpu) in self.gpus.iter().enumerate() {
            let gigabytes = gpu.memory as f64 / f64::from(1 << 30);
            write!(f, "{} {} ({gigabytes:.2}GB)", if index == 0 { ":" } else { "," }, gpu.name)?;
        }
        match &self.problem {
            Some(problem) => write!(f, "; {problem}"),
            None => Ok(()),
        }
    }
}

impl GpuSummary {
    /// What two engines found together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        for gpu in other.gpus {
            if self.gpus.iter().all(|it| it.id != gpu.id) {
                self.gpus.push(gpu);
            }
        }
        self
    }
}

/// The one GPU whose memory is reported, and who is asked for it.
pub(crate) struct Gpu {
    /// What the engine computes on, if that is a GPU.
    board: Option<Board>,
    nvml: Option<Watched>,
    summary: GpuSummary,
}

/// A board that NVML knows.
struct Watched {
    nvml: Nvml,
    /// NVML's number of it.
    index: u32,
    info: GpuInfo,
}

impl Gpu {
    /// `board` is what the engine computes on; without one NVML's first board is watched.
    pub(crate) fn open(library: Option<&Path>, board: Option<Board>) -> Self {
        let nvml = match library {
            Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
            None => Nvml::init(),
        };
        let (nvml, mut summary) = match nvml {
            Ok(nvml) => {
                let summary = summary(&nvml);
                (Some(nvml), summary)
            }
            Err(error) => {
                let problem = Some(format!("NVML is not there ({})", first_line(&error)));
                (None, GpuSummary { gpus: Vec::new(), problem })
            }
        };
        let at = match &board {
            Some(board) => summary.gpus.iter().position(|it| it.id == board.id),
            None => (!summary.gpus.is_empty()).then_some(0),
        };
        let watched = at.zip(nvml).and_then(|(at, nvml)| {
            let info = summary.gpus.get(at)?.clone();
            Some(Watched { nvml, index: u32::try_from(at).ok()?, info })
        });
        if let (Some(board), None) = (&board, &watched) {
            let memory = (board.memory)().map_or(0, |it| it.total);
            let (id, name) = (board.id.clone(), board.name.clone());
            let problem = summary.problem.take();
            let problem = problem.or_else(|| Some(format!("NVML does not know {}", board.device)));
            summary = GpuSummary { gpus: vec![GpuInfo { id, name, memory }], problem };
        }
        Self { board, nvml: watched, summary }
    }

    pub(crate) fn summary(&self) -> &GpuSummary {
        &self.summary
    }

    /// Emits `gpu.memory` under `span`. The caller has waited for the device: the GPU works on while the CPU goes ahead.
    pub(crate) fn emit(&self, span: &tracing::Span, phase: GpuPhase) {
        let Some((id, name, reading)) = self.read() else { return };
        let device = self.board.as_ref().map(|it| it.device.as_str());
        match reading {
            Ok(reading) => {
                events::gpu_memory(span, phase, &GpuMemory { device, id, name, reading });
            }
            Err(problem) => events::gpu_lost(span, &problem),
        }
    }

    /// Whose memory it is, and how it is. NVML is asked first: it tells of the whole device, as `nvidia-smi` does.
    fn read(&self) -> Option<(&str, &str, Result<Reading, String>)> {
        if let Some(Watched { nvml, index, info }) = &self.nvml {
            let memory = nvml.device_by_index(*index).and_then(|device| device.memory_info());
            let reading = match memory {
                Ok(it) => Ok(Reading { used: it.used, free: it.free, total: it.total }),
                Err(error) => Err(first_line(&error)),
            };
            return Some((info.id.as_str(), info.name.as_str(), reading));
        }
        let board = self.board.as_ref()?;
        let reading = (board.memory)();
        let reading = reading.map(|it| Reading { used: it.used(), free: it.free, total: it.total });
        Some((board.id.as_str(), board.name.as_str(), reading))
    }
}

fn summary(nvml: &Nvml) -> GpuSummary {
    match boards(nvml) {
        Ok(gpus) if gpus.is_empty() => {
            GpuSummary { gpus, problem: Some("NVML found no GPU".to_owned()) }
        }
        Ok(gpus) => GpuSummary { gpus, problem: None },
        Err(error) => {
            let problem = Some(format!("NVML cannot list the GPUs ({})", first_line(&error)));
            GpuSummary { gpus: Vec::new(), problem }
        }
    }
}

fn boards(nvml: &Nvml) -> Result<Vec<GpuInfo>, NvmlError> {
    (0..nvml.device_count()?)
        .map(|index| {
            let device = nvml.device_by_index(index)?;
            Ok(GpuInfo {
                id: device.uuid()?,
                name: device.name()?,
                memory: device.memory_info()?.total,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;

    fn board(memory: Result<Memory, String>) -> Board {
        Board {
            device: "cuda:1".to_owned(),
            id: "GPU-1".to_owned(),
            name: "H100".to_owned(),
            memory: Box::new(move || memory.clone()),
        }
    }

    #[test]
    fn without_nvml_the_driver_is_asked() {
        let nowhere = Some(Path::new("/nonexistent/libnvidia-ml.so"));
        let memory = Memory { free: 3 << 30, total: 8 << 30 };
        let gpu = Gpu::open(nowhere, Some(board(Ok(memory))));
        let text = gpu.summary().to_string();
        assert!(text.starts_with("CUDA found 1 GPU: H100 (8.00GB); NVML is not there"), "{text}");
        let reading = Reading { used: 5 << 30, free: 3 << 30, total: 8 << 30 };
        assert_eq!(gpu.read(), Some(("GPU-1", "H100", Ok(reading))));

        let lost = Gpu::open(nowhere, Some(board(Err("no device".to_owned()))));
        assert_eq!(lost.read(), Some(("GPU-1", "H100", Err("no device".to_owned()))));

        let none = Gpu::open(nowhere, None);
        assert!(none.read().is_none());
        let text = none.summary().to_string();
        assert!(text.starts_with("no GPU memory readings: NVML is not there"), "{text}");
    }

    #[test]
    fn a_board_that_two_engines_see_is_told_once() {
        let info =
            |id: &str| GpuInfo { id: id.to_owned(), name: "H100".to_owned(), memory: 80 << 30 };
        let found = |ids: &[&str]| GpuSummary {
            gpus: ids.iter().map(|it| info(it)).collect(),
            problem: None,
        };
        assert_eq!(found(&["a", "b"]).and(found(&["b", "a"])), found(&["a", "b"]));
        assert_eq!(found(&["a"]).and(found(&["b"])), found(&["a", "b"]));
    }
}
