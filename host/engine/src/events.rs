//! The `tracing` events of a job: what the log layer makes records of. Names of fields are OpenTelemetry's, or have the
//! prefix `bucksaw.`.

use std::time::Duration;

use tracing::Span;

/// When the memory was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GpuPhase {
    Before,
    After,
}

/// One reading.
pub(crate) struct GpuMemory<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    /// Bytes.
    pub(crate) used: u64,
    /// Bytes.
    pub(crate) total: u64,
}

pub(crate) fn gpu_memory(span: &Span, phase: GpuPhase, memory: &GpuMemory<'_>) {
    let utilization =
        if memory.total == 0 { 0.0 } else { memory.used as f64 / memory.total as f64 };
    tracing::info!(
        target: "bucksaw",
        parent: span,
        event = "gpu.memory",
        bucksaw.stream = "engine",
        bucksaw.gpu.phase = match phase {
            GpuPhase::Before => "before",
            GpuPhase::After => "after",
        },
        hw.id = memory.id,
        hw.name = memory.name,
        hw.gpu.memory.usage = memory.used,
        hw.gpu.memory.limit = memory.total,
        hw.gpu.memory.utilization = utilization,
    );
}

/// A GPU that was there when the engine started does not answer any more.
pub(crate) fn gpu_lost(span: &Span, problem: &str) {
    tracing::warn!(
        target: "bucksaw",
        parent: span,
        event = "log",
        bucksaw.stream = "engine",
        bucksaw.notice = format!("GPU memory cannot be read: {problem}"),
    );
}

/// The adapter that a job runs with; `modules` is how many of the model's matrices it changed.
pub(crate) fn lora_resolved(span: &Span, requested: &str, resolved: &str, modules: u64) {
    tracing::info!(
        target: "bucksaw",
        parent: span,
        event = "lora.resolved",
        bucksaw.stream = "engine",
        bucksaw.lora.requested = requested,
        bucksaw.lora.resolved = resolved,
        bucksaw.lora.default_used = false,
        bucksaw.lora.status = "ok",
        bucksaw.lora.modules = modules,
    );
}

/// No adapter was asked for: the model as it is.
pub(crate) fn lora_none(span: &Span, model: &str) {
    tracing::debug!(
        target: "bucksaw",
        parent: span,
        event = "lora.resolved",
        bucksaw.stream = "engine",
        bucksaw.lora.resolved = model,
        bucksaw.lora.default_used = true,
        bucksaw.lora.status = "none",
    );
}

/// An adapter was asked for that is not there.
pub(crate) fn lora_failed(span: &Span, requested: &str) {
    tracing::warn!(
        target: "bucksaw",
        parent: span,
        event = "lora.resolved",
        bucksaw.stream = "engine",
        bucksaw.lora.requested = requested,
        bucksaw.lora.default_used = false,
        bucksaw.lora.status = "failed",
    );
}

pub(crate) fn first_token(span: &Span, queue: Duration, prefill: Duration) {
    tracing::debug!(
        target: "bucksaw",
        parent: span,
        event = "generation.first_token",
        bucksaw.stream = "engine",
        gen_ai.response.time_to_first_chunk = (queue + prefill).as_secs_f64(),
        bucksaw.queue_ms = queue.as_secs_f64() * 1e3,
        bucksaw.prefill_ms = prefill.as_secs_f64() * 1e3,
    );
}
