//! The `tracing` events of a job: what the log layer makes records of. Names of fields are OpenTelemetry's, or have the
//! prefix `bucksaw.`.

use std::time::Duration;

use tracing::Span;

use crate::scheduler::Served;

/// When the memory was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GpuPhase {
    Before,
    After,
}

/// A reading, and whose it is.
pub(crate) struct GpuMemory<'a> {
    /// `cuda:0`, where the engine computes on it.
    pub(crate) device: Option<&'a str>,
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) reading: Reading,
}

/// Memory of a GPU, in bytes. What the driver keeps for itself may be missing in both parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) used: u64,
    pub(crate) free: u64,
    pub(crate) total: u64,
}

pub(crate) fn gpu_memory(span: &Span, phase: GpuPhase, memory: &GpuMemory<'_>) {
    let Reading { used, free, total } = memory.reading;
    let utilization = if total == 0 { 0.0 } else { used as f64 / total as f64 };
    tracing::info!(
        target: "bucksaw",
        parent: span,
        event = "gpu.memory",
        bucksaw.stream = "engine",
        bucksaw.gpu.phase = match phase {
            GpuPhase::Before => "before",
            GpuPhase::After => "after",
        },
        bucksaw.gpu.device = memory.device,
        bucksaw.gpu.free = free,
        hw.id = memory.id,
        hw.name = memory.name,
        hw.gpu.memory.usage = used,
        hw.gpu.memory.limit = total,
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

/// The adapter that a job runs with, or that it runs without one.
pub(crate) fn adapter(span: &Span, requested: &str, served: &Served) {
    let resolved = served.model.name.as_str();
    match &served.adapter {
        Some(adapter) => {
            lora_resolved(span, requested, resolved, adapter.modules as u64);
        }
        // One that is not there was told when the job was handed in.
        None => lora_none(span, resolved),
    }
}

/// `modules` is how many of the model's matrices the adapter changes.
fn lora_resolved(span: &Span, requested: &str, resolved: &str, modules: u64) {
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
fn lora_none(span: &Span, model: &str) {
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

/// Why an adapter that was asked for is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdapterProblem {
    Unknown,
    /// It is one of another model.
    Foreign,
}

impl AdapterProblem {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_adapter",
            Self::Foreign => "adapter_of_another_model",
        }
    }
}

/// An adapter was asked for that is not there, and the job is refused.
pub(crate) fn lora_failed(span: &Span, requested: &str, problem: AdapterProblem) {
    tracing::warn!(
        target: "bucksaw",
        parent: span,
        event = "lora.resolved",
        bucksaw.stream = "engine",
        bucksaw.lora.requested = requested,
        bucksaw.lora.default_used = false,
        bucksaw.lora.status = "failed",
        error.type = problem.as_str(),
    );
}

/// An adapter was asked for that is not there, and the job runs on the model alone: `engine.adapter_fallback`.
pub(crate) fn lora_fallback(span: &Span, requested: &str, model: &str, problem: AdapterProblem) {
    tracing::warn!(
        target: "bucksaw",
        parent: span,
        event = "lora.resolved",
        bucksaw.stream = "engine",
        bucksaw.lora.requested = requested,
        bucksaw.lora.resolved = model,
        bucksaw.lora.default_used = true,
        bucksaw.lora.status = "failed",
        error.type = problem.as_str(),
    );
}

pub(crate) fn first_token(span: &Span, queue: Duration, prefill: Duration, cached: usize) {
    tracing::debug!(
        target: "bucksaw",
        parent: span,
        event = "generation.first_token",
        bucksaw.stream = "engine",
        gen_ai.response.time_to_first_chunk = (queue + prefill).as_secs_f64(),
        bucksaw.queue_ms = queue.as_secs_f64() * 1e3,
        bucksaw.prefill_ms = prefill.as_secs_f64() * 1e3,
        gen_ai.usage.cache_read.input_tokens = cached as u64,
    );
}

/// A job lost its blocks, and is computed again when there are some.
pub(crate) fn preempted(span: &Span, times: u64, output_tokens: usize) {
    tracing::debug!(
        target: "bucksaw",
        parent: span,
        event = "generation.preempted",
        bucksaw.stream = "engine",
        bucksaw.preemptions = times,
        gen_ai.usage.output_tokens = output_tokens as u64,
    );
}

/// The device has no memory for a step. `again` is how many jobs are computed again; one fails.
pub(crate) fn out_of_memory(span: &Span, error: &str, again: usize) {
    tracing::error!(
        target: "bucksaw",
        parent: span,
        event = "log",
        severity.number = CRITICAL,
        bucksaw.stream = "engine",
        error.type = "out_of_memory",
        exception.message = error,
        bucksaw.notice = format!(
            "the device is out of memory: one job failed, {again} are computed again; lower \
             engine.kv_cache_mib or engine.max_num_batched_tokens if it comes back"
        ),
    );
}

/// OpenTelemetry's number of the severity that `tracing` has no level for.
const CRITICAL: u64 = 21;

/// How the engine did in the last seconds. Rates are tokens per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EngineStats {
    /// Which one of several it is.
    pub(crate) engine: Option<usize>,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    /// From 0 to 1, as is the hit rate.
    pub(crate) cache_usage: f64,
    pub(crate) prefix_hit_rate: f64,
    pub(crate) prompt_rate: f64,
    pub(crate) output_rate: f64,
    pub(crate) preemptions: u64,
}

pub(crate) fn engine_stats(it: &EngineStats) {
    tracing::info!(
        target: "bucksaw",
        event = "engine.stats",
        bucksaw.stream = "engine",
        bucksaw.notice = format!(
            "{}running {}, waiting {}, cache {:.1} %, prefix hits {:.1} %, prompt {:.1} tokens/s, \
             answers {:.1} tokens/s",
            it.engine.map_or_else(String::new, |engine| format!("engine {engine}: ")),
            it.running,
            it.waiting,
            it.cache_usage * 100.0,
            it.prefix_hit_rate * 100.0,
            it.prompt_rate,
            it.output_rate,
        ),
        bucksaw.engine.number = it.engine.map(|engine| engine as u64),
        bucksaw.engine.running = it.running as u64,
        bucksaw.engine.waiting = it.waiting as u64,
        bucksaw.engine.cache_usage = it.cache_usage,
        bucksaw.engine.prefix_hit_rate = it.prefix_hit_rate,
        bucksaw.engine.prompt_tokens_per_second = it.prompt_rate,
        bucksaw.engine.output_tokens_per_second = it.output_rate,
        bucksaw.preemptions = it.preemptions,
    );
}

/// An adapter came or went while the engine runs.
pub(crate) fn adapter_changed(notice: String) {
    tracing::info!(
        target: "bucksaw",
        event = "log",
        bucksaw.stream = "engine",
        bucksaw.notice = notice,
    );
}
