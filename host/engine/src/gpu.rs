//! GPU memory by NVML. Where there is no NVML there are no numbers, and the summary says why.

use std::{fmt, path::Path};

use nvml_wrapper::{Nvml, error::NvmlError};

use crate::{
    error::first_line,
    events::{self, GpuMemory, GpuPhase},
};

/// What NVML found when the engine started, for one line at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuSummary {
    pub gpus: Vec<GpuInfo>,
    /// Why there are no `gpu.memory` events.
    pub problem: Option<String>,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInfo {
    /// NVML's number of it.
    pub index: u32,
    /// NVML's name for this very board: `GPU-…`.
    pub id: String,
    pub name: String,
    /// Bytes.
    pub memory: u64,
}

impl fmt::Display for GpuSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(problem) = &self.problem {
            return write!(f, "no GPU memory readings: {problem}");
        }
        write!(f, "NVML found {} GPU", self.gpus.len())?;
        f.write_str(if self.gpus.len() == 1 { "" } else { "s" })?;
        for (index, gpu) in self.gpus.iter().enumerate() {
            let gigabytes = gpu.memory as f64 / f64::from(1 << 30);
            write!(f, "{} {} ({gigabytes:.2}GB)", if index == 0 { ":" } else { "," }, gpu.name)?;
        }
        Ok(())
    }
}

/// NVML and the one GPU whose memory is reported.
pub(crate) struct Gpu {
    nvml: Option<Nvml>,
    watched: Option<GpuInfo>,
    summary: GpuSummary,
}

impl Gpu {
    /// `uuid` is the board that the engine computes on; without one the first board is watched.
    pub(crate) fn open(library: Option<&Path>, uuid: Option<&str>) -> Self {
        let nvml = match library {
            Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
            None => Nvml::init(),
        };
        let (nvml, summary) = match nvml {
            Ok(nvml) => {
                let summary = summary(&nvml);
                (Some(nvml), summary)
            }
            Err(error) => {
                let problem = Some(format!("NVML is not there ({})", first_line(&error)));
                (None, GpuSummary { gpus: Vec::new(), problem })
            }
        };
        let by_uuid = summary.gpus.iter().find(|gpu| Some(gpu.id.as_str()) == uuid);
        let watched = by_uuid.or(summary.gpus.first()).cloned();
        Self { nvml, watched, summary }
    }

    pub(crate) fn summary(&self) -> &GpuSummary {
        &self.summary
    }

    /// Emits `gpu.memory` under `span`. The caller has waited for the device: the GPU works on while the CPU goes ahead.
    pub(crate) fn emit(&self, span: &tracing::Span, phase: GpuPhase) {
        let (Some(nvml), Some(gpu)) = (&self.nvml, &self.watched) else { return };
        match nvml.device_by_index(gpu.index).and_then(|device| device.memory_info()) {
            Ok(info) => events::gpu_memory(
                span,
                phase,
                &GpuMemory { id: &gpu.id, name: &gpu.name, used: info.used, total: info.total },
            ),
            Err(error) => events::gpu_lost(span, &first_line(&error)),
        }
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
                index,
                id: device.uuid()?,
                name: device.name()?,
                memory: device.memory_info()?.total,
            })
        })
        .collect()
}
