//! The thread that makes jobs ready: template, tokens, images, grammars. However long that takes, answers under way go on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use tokio::sync::mpsc::UnboundedSender;

use super::{
    Message, panic_text,
    pictures::{Pixels, Shelf},
    prefix::Mark,
    served::Served,
};
use crate::{
    error::{EngineError, LoadError},
    job::{Event, Job, Prompt},
    model::{Area, VisionSpec},
    prompt::Prompter,
    sampler::mask::Mask,
};

/// A job on its way to the engine thread.
pub(crate) struct Ticket {
    pub(crate) job: Job,
    /// In the order in which jobs were handed in.
    pub(crate) number: u64,
    pub(crate) served: Arc<Served>,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) submitted: Instant,
    /// Held while it waits.
    pub(crate) place: Option<Place>,
    /// Held until its last event: as long, its engine counts it.
    pub(crate) counted: Option<Place>,
}

impl Ticket {
    /// Nobody waits for it any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.events.is_closed()
    }

    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.job.deadline.is_some_and(|it| it <= now)
    }
}

/// One of the places in the queue: free again when it is dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    /// None when all are taken.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, capacity: usize) -> Option<Self> {
        let more = |it: usize| (it < capacity).then_some(it + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A job that can run.
pub(crate) struct Ready {
    /// One image token has become as many as the image has features.
    pub(crate) tokens: Vec<u32>,
    pub(crate) image_tokens: usize,
    pub(crate) pictures: Vec<Picture>,
    pub(crate) mask: Option<Box<dyn Mask>>,
}

/// An image, ready for the model's eyes.
pub(crate) struct Picture {
    pub(crate) mark: Mark,
    pub(crate) area: Area,
    pub(crate) pixels: Arc<Pixels>,
}

/// What prompts are made for.
pub(crate) struct Reader {
    pub(crate) prompter: Arc<Prompter>,
    pub(crate) vision: Option<VisionSpec>,
    /// How many tokens prompt and answer may have together.
    pub(crate) context: usize,
    /// How many tokens the model knows: a tokenizer may know more.
    pub(crate) vocabulary: usize,
    /// Images of jobs that are not over.
    pub(crate) shelf: Shelf,
}

impl Reader {
    /// Makes jobs ready in the order in which they came, until no more can come.
    pub(crate) fn start(
        mut self,
        engine: usize,
        tickets: Receiver<Ticket>,
        ready: Sender<Message>,
    ) -> Result<JoinHandle<()>, LoadError> {
        thread::Builder::new()
            .name(format!("engine-{engine}-prompt"))
            .spawn(move || {
                for mut ticket in tickets {
                    if ticket.is_given_up() {
                        continue;
                    }
                    let read = catch_unwind(AssertUnwindSafe(|| self.read(&ticket.job)));
                    let read = read.unwrap_or_else(|panic| {
                        Err(EngineError::Panicked(panic_text(panic.as_ref())))
                    });
                    // It has been read, and images are large.
                    ticket.job.prompt = Arc::new(Prompt::Tokens(Vec::new()));
                    if ready.send(Message::Job(Box::new((ticket, read)))).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| LoadError::Thread(error.to_string()))
    }

    pub(crate) fn read(&mut self, job: &Job) -> Result<Ready, EngineError> {
        let vision = self.vision.as_ref();
        let encoded = self.prompter.encode_prompt(&job.prompt, vision, self.context)?;
        let image_token = vision.map(|it| it.image_token);
        check_tokens(&job.prompt, &encoded.tokens, self.vocabulary, image_token)?;
        let mut pictures = Vec::with_capacity(encoded.images.len());
        if let Some(vision) = vision {
            let mut from = 0;
            for (image, extent) in encoded.images.iter().zip(&encoded.extents) {
                let at = encoded.tokens[from..].iter().position(|it| *it == vision.image_token);
                let at = from
                    + at.ok_or_else(|| EngineError::Internal("an image has no place".into()))?;
                let digest = self.shelf.digest(image);
                let mark = Mark { at, tokens: extent.tokens(), digest };
                let area = Area { at, extent: *extent };
                from = area.end();
                let size = vision.preprocess.size(image.width(), image.height())?;
                let pixels = self.shelf.take(digest, size, || vision.preprocess.fit(image))?;
                pictures.push(Picture { mark, area, pixels });
            }
        }
        let mask = match &job.constraint {
            Some(constraint) => Some(Box::new(self.prompter.mask(constraint)?) as Box<dyn Mask>),
            None => None,
        };
        Ok(Ready { tokens: encoded.tokens, image_tokens: encoded.image_tokens, pictures, mask })
    }
}

/// Whether the model knows all tokens of a prompt, `vocabulary` being how many it knows.
pub(crate) fn check_tokens(
    prompt: &Prompt,
    tokens: &[u32],
    vocabulary: usize,
    image_token: Option<u32>,
) -> Result<(), EngineError> {
    let unknown = |it: &&u32| **it as usize >= vocabulary && Some(**it) != image_token;
    let Some(token) = tokens.iter().find(unknown) else { return Ok(()) };
    let reason = format!("the model has no token {token}, only {vocabulary}");
    // Whose fault it is depends on who chose it: the client, or the model's own tokenizer.
    Err(match prompt {
        Prompt::Tokens(_) => EngineError::BadPrompt(reason),
        Prompt::Text(_) | Prompt::Chat { .. } => EngineError::Internal(reason),
    })
}
