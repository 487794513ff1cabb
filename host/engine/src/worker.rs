//! The engine thread: owns the device and the models, and runs one job after the other.

#[cfg(test)]
mod tests;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::Receiver,
    },
    time::Instant,
};

use candle_core::Device;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    config::Config,
    device,
    engine::ServedModel,
    error::{EngineError, LoadError},
    events::{self, GpuPhase},
    gpu::{Gpu, GpuSummary},
    job::{Event, FinishReason, Finished, Job, Timings},
    load::{self, Loaded},
    model::Prompt,
    prompt::Encoded,
    sampler::Sampler,
    stream::{Detokenizer, StopTexts},
    threads,
};

/// A job on its way to the engine thread.
pub(crate) struct Queued {
    pub(crate) job: Job,
    /// Index of the model that it runs on.
    pub(crate) model: usize,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) submitted: Instant,
}

/// Everything that lives on the engine thread.
pub(crate) struct Worker {
    models: Vec<Loaded>,
    device: Device,
    gpu: Gpu,
}

impl Worker {
    pub(crate) fn load(config: &Config) -> Result<Self, LoadError> {
        let device = device::open(config.device)?;
        let unset = threads::thread_variables(config.threads);
        if device.is_cpu() && !unset.is_empty() {
            let names: Vec<_> = unset.iter().map(|(name, _)| *name).collect();
            tracing::debug!(
                target: "bucksaw",
                event = "log",
                bucksaw.stream = "engine",
                bucksaw.notice = format!("{} not set: every core computes", names.join(", ")),
            );
        }
        let gpu = Gpu::open(config.nvml_library.as_deref(), device::uuid(&device).as_deref());
        let models = load::load(config, &device)?;
        Ok(Self { models, device, gpu })
    }

    pub(crate) fn served(&self) -> Vec<ServedModel> {
        self.models.iter().map(|model| model.served.clone()).collect()
    }

    pub(crate) fn device_name(&self) -> String {
        device::name(&self.device)
    }

    pub(crate) fn gpu_summary(&self) -> GpuSummary {
        self.gpu.summary().clone()
    }

    /// Runs jobs until the queue is closed and empty.
    pub(crate) fn serve(mut self, jobs: &Receiver<Queued>, waiting: &AtomicUsize) {
        while let Ok(queued) = jobs.recv() {
            waiting.fetch_sub(1, Ordering::Relaxed);
            self.run(&queued);
        }
    }

    fn run(&mut self, queued: &Queued) {
        // A receiver that is gone is a request that was given up while it waited.
        if queued.events.is_closed() {
            return;
        }
        let Some(loaded) = self.models.get_mut(queued.model) else { return };
        let (device, gpu) = (&self.device, &self.gpu);
        // A panic in a model or in candle must not take the other jobs with it. Afterwards the model is reset, and
        // nothing else that the closure can change outlives it.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            Generation { loaded: &mut *loaded, device, gpu, queued }.run()
        }));
        loaded.model.reset();
        let event = match outcome {
            Ok(Ok(finished)) => Event::Finished(finished),
            Ok(Err(EngineError::Cancelled)) => return,
            Ok(Err(error)) => Event::Failed(error),
            Err(panic) => Event::Failed(EngineError::Panicked(panic_text(panic.as_ref()))),
        };
        let _ = queued.events.send(event);
    }
}

/// One job while it runs.
struct Generation<'a> {
    loaded: &'a mut Loaded,
    device: &'a Device,
    gpu: &'a Gpu,
    queued: &'a Queued,
}

impl Generation<'_> {
    fn run(mut self) -> Result<Finished, EngineError> {
        let started = Instant::now();
        let job = &self.queued.job;
        self.say_adapter();

        let loaded = &*self.loaded;
        let vision = loaded.model.vision();
        let prompt = loaded.prompter.encode(&job.messages, vision, loaded.model.context())?;
        let images = match vision {
            Some(vision) => prompt
                .images
                .iter()
                .map(|image| vision.preprocess.apply(image))
                .collect::<Result<Vec<_>, _>>()?,
            None => Vec::new(),
        };
        self.send(Event::Started { input_tokens: prompt.tokens.len() })?;

        self.gpu.emit(&job.span, GpuPhase::Before);
        let outcome = self.generate(&prompt, &images, started);
        // An error of the device shows in the outcome; the reading is worth having all the same.
        let _ = self.device.synchronize();
        self.gpu.emit(&job.span, GpuPhase::After);
        outcome
    }

    fn generate(
        &mut self,
        prompt: &Encoded,
        images: &[candle_core::Tensor],
        started: Instant,
    ) -> Result<Finished, EngineError> {
        let job = &self.queued.job;
        let prompter = Arc::clone(&self.loaded.prompter);
        let tokenizer = prompter.tokenizer();
        let room = self.loaded.model.context() - prompt.tokens.len();
        let limit = job.sampling.max_tokens.unwrap_or(room).min(room);
        let mut sampler = Sampler::new(&job.sampling);
        let mut text = Detokenizer::new(|ids: &[u32]| tokenizer.decode(ids));
        let mut stops = StopTexts::new(&job.sampling.stop);

        let events = &self.queued.events;
        let interrupted = || events.is_closed();
        let mut logits = self.loaded.model.prefill(&Prompt {
            tokens: &prompt.tokens,
            images,
            interrupted: &interrupted,
        })?;

        let queue = started - self.queued.submitted;
        let mut prefill = started.elapsed();
        let mut reason = FinishReason::Length;
        let mut output_tokens = 0;
        let mut stopped = false;
        while output_tokens < limit {
            let token = sampler.next(&logits)?;
            output_tokens += 1;
            if output_tokens == 1 {
                // Only now is the prompt's pass over: on a GPU it was the sampler that waited for it.
                prefill = started.elapsed();
                events::first_token(&job.span, queue, prefill);
            }
            if tokenizer.is_eos(token) {
                reason = FinishReason::Stop;
                break;
            }
            let released = stops.push(&text.push(token)?);
            self.send_text(released.text)?;
            if released.stopped {
                reason = FinishReason::Stop;
                stopped = true;
                break;
            }
            if output_tokens < limit {
                logits = self.loaded.model.step(token)?;
            }
        }
        if !stopped {
            let released = stops.push(&text.finish()?);
            self.send_text(released.text)?;
            if released.stopped {
                reason = FinishReason::Stop;
            } else {
                self.send_text(stops.finish())?;
            }
        }

        let generation = started.elapsed();
        Ok(Finished {
            reason,
            input_tokens: prompt.tokens.len(),
            output_tokens,
            image_tokens: prompt.image_tokens,
            timings: Timings {
                queue,
                prefill,
                first_token: queue + prefill,
                decode: generation.saturating_sub(prefill),
                generation,
            },
        })
    }

    fn say_adapter(&self) {
        let job = &self.queued.job;
        let served = &self.loaded.served;
        if served.parent.is_none() {
            events::lora_none(&job.span, &served.name);
        } else {
            let requested = job.adapter_requested.as_deref().unwrap_or(&job.model);
            let modules = self.loaded.adapter_modules as u64;
            events::lora_resolved(&job.span, requested, &served.name, modules);
        }
    }

    fn send_text(&self, text: String) -> Result<(), EngineError> {
        // Also where there is nothing to send, a receiver that is gone ends the job.
        if text.is_empty() {
            return if self.queued.events.is_closed() {
                Err(EngineError::Cancelled)
            } else {
                Ok(())
            };
        }
        self.send(Event::Text(text))
    }

    fn send(&self, event: Event) -> Result<(), EngineError> {
        self.queued.events.send(event).map_err(|_| EngineError::Cancelled)
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    text.lines().next().unwrap_or_default().to_owned()
}
