//! What can go wrong: while loading ([`LoadError`]), when a job is handed in ([`SubmitError`]), and while it runs
//! ([`EngineError`]).

use std::{fmt::Display, io, path::PathBuf};

use thiserror::Error;

use crate::adapter::AdapterError;

/// Why an engine did not start. It is for the operator: it names the file and the next step.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{place} has no {file}; is it a folder that `save_pretrained` wrote?")]
    MissingFile { file: String, place: String },
    #[error("{file} is larger than {limit} bytes, which no such file should be")]
    TooLarge { file: String, limit: u64 },
    #[error("{file} is wrong: {reason}")]
    Config { file: String, reason: String },
    #[error("no model family for {found}; known are {known}")]
    UnknownFamily { found: String, known: String },
    #[error("{feature} is not supported: {instead}")]
    Unsupported { feature: String, instead: &'static str },
    #[error("the checkpoint has no tensor {name}; is a file of it missing?")]
    MissingTensor { name: String },
    #[error("tensor {name} is {found:?}, and config.json makes it {expected:?}")]
    Shape { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("the tokenizer cannot be loaded: {0}")]
    Tokenizer(String),
    #[error("the chat template cannot be used: {0}")]
    Template(String),
    #[error("adapter {name}: {source}")]
    Adapter { name: String, source: AdapterError },
    #[error("two models would be served as {0}; give one of them another name")]
    DuplicateName(String),
    #[error("no device: {0}")]
    Device(String),
    #[error("engine.dtype {dtype} cannot be used: {reason}")]
    Dtype { dtype: &'static str, reason: &'static str },
    #[error("cannot fetch {id} from the hub: {reason}")]
    Hub { id: String, reason: String },
    #[error("cannot load the weights: {0}")]
    Weights(String),
    #[error("cannot start the engine thread: {0}")]
    Thread(String),
}

impl From<candle_core::Error> for LoadError {
    fn from(error: candle_core::Error) -> Self {
        Self::Weights(first_line(&error))
    }
}

/// Why a job was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubmitError {
    #[error("{capacity} jobs are waiting already; try again later")]
    QueueFull { capacity: usize },
    #[error("no model or adapter is named {0}")]
    UnknownModel(String),
    #[error("model {0} takes no images")]
    NoVision(String),
    #[error("the engine is shutting down")]
    ShuttingDown,
}

/// Why an adapter did not come or go while the engine runs. It is for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AdapterChangeError {
    #[error("a name of an adapter has 1 to {longest} letters, digits or any of . _ - / : @")]
    BadName { longest: usize },
    #[error("there is a model or an adapter {0}: unload it first, or take another name")]
    Taken(String),
    #[error("no adapter is named {0}")]
    Unknown(String),
    #[error("there are as many adapters as one engine serves: unload one")]
    TooMany,
    #[error("it cannot be loaded: {0}")]
    Load(String),
    #[error("the engine is shutting down")]
    ShuttingDown,
}

/// Why a job that was taken did not finish. It may hold words of the person or of the model: it is content.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EngineError {
    #[error(
        "the prompt has at least {tokens} tokens and the model holds {context}, answer included; shorten it"
    )]
    PromptTooLong { tokens: usize, context: usize },
    #[error("an image cannot be used: {0}")]
    BadImage(String),
    #[error("the messages do not fit the model's chat template: {0}")]
    Template(String),
    #[error("the prompt cannot be used: {0}")]
    BadPrompt(String),
    #[error("the form of the answer {0}")]
    Constraint(String),
    #[error("the request's time is over: ask for less, or allow more time")]
    DeadlineExceeded,
    #[error("there is no room for the text or its images now: try again shortly")]
    CacheFull,
    #[error("out of memory: {0}; shorten the prompt or use a smaller model")]
    OutOfMemory(String),
    #[error("the engine failed: {0}")]
    Internal(String),
    #[error("the engine panicked: {0}")]
    Panicked(String),
    /// Nobody listens any more. Never sent: there is nobody to send it to.
    #[error("cancelled")]
    Cancelled,
}

impl EngineError {
    /// A name for logs and metrics, out of a closed set.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::PromptTooLong { .. } => "prompt_too_long",
            Self::BadImage(_) => "bad_image",
            Self::Template(_) => "template",
            Self::BadPrompt(_) => "bad_prompt",
            Self::Constraint(_) => "constraint",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::CacheFull => "cache_full",
            Self::OutOfMemory(_) => "out_of_memory",
            Self::Internal(_) => "internal",
            Self::Panicked(_) => "panicked",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether another request would have helped: 4xx rather than 5xx.
    pub fn is_client_error(&self) -> bool {
        matches!(
            self,
            Self::PromptTooLong { .. } | Self::BadImage(_) | Self::BadPrompt(_) | Self::Template(_)
        )
    }
}

/// What CUDA, cuBLAS, cuDNN, cuRAND and NVRTC say of a device without memory, in lower case.
const NO_MEMORY: [&str; 4] =
    ["out of memory", "out_of_memory", "alloc_failed", "allocation_failed"];

impl From<candle_core::Error> for EngineError {
    fn from(error: candle_core::Error) -> Self {
        let text = first_line(&error);
        // The driver's errors are text by the time they arrive here, as are those of the libraries above it, which take memory
        // of the device for themselves.
        let lower = text.to_lowercase();
        if NO_MEMORY.iter().any(|it| lower.contains(it)) {
            Self::OutOfMemory(text)
        } else {
            Self::Internal(text)
        }
    }
}

/// The first line of an error's text: what follows in candle's is a backtrace.
pub(crate) fn first_line(error: &dyn Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::EngineError;

    /// As cudarc writes the errors that candle hands on.
    #[test]
    fn a_device_without_memory_is_told_from_a_broken_one() {
        for (text, expected) in [
            ("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")", "out_of_memory"),
            (
                "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\") when loading reduce",
                "out_of_memory",
            ),
            ("CublasError(CUBLAS_STATUS_ALLOC_FAILED)", "out_of_memory"),
            ("CudnnError(CUDNN_STATUS_ALLOC_FAILED)", "out_of_memory"),
            ("CurandError(CURAND_STATUS_ALLOCATION_FAILED)", "out_of_memory"),
            ("NvrtcError(NVRTC_ERROR_OUT_OF_MEMORY)", "out_of_memory"),
            ("CublasError(CUBLAS_STATUS_EXECUTION_FAILED)", "internal"),
            ("CublasError(CUBLAS_STATUS_NOT_INITIALIZED)", "internal"),
            (
                "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")",
                "internal",
            ),
            ("shape mismatch in matmul\nfrom CUDA_ERROR_OUT_OF_MEMORY", "internal"),
        ] {
            let plain = candle_core::Error::Msg(text.to_owned());
            assert_eq!(EngineError::from(plain).error_type(), expected, "{text}");
            // What the driver said stands first, whatever candle says around it.
            let source = std::io::Error::other(text.to_owned());
            let handed_on = candle_core::Error::Cuda(Box::new(source)).bt();
            assert_eq!(EngineError::from(handed_on).error_type(), expected, "{text}");
        }
    }
}
