//! What a request may ask for. Each default has its reason beside it.

use std::time::Duration;

const MIB: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct Limits {
    /// 32 MiB: eight photos of 3 MB in base64, which makes four bytes out of three.
    pub body_bytes: usize,
    /// 30 s: the whole head of a request, from the end of the one before, or from the first byte of a connection.
    pub head_time: Duration,
    /// 30 s: the whole body, so that a client that drips bytes can't hold a connection for ever.
    pub body_time: Duration,
    /// Bytes over [`Self::body_bytes`] that are read and thrown away, so that the client hears why it is refused.
    pub body_drain_bytes: usize,
    /// 1024: longer conversations fit no context, and each message costs work in the chat template.
    pub messages: usize,
    /// A million: some 250 000 tokens, more than any context here, and little enough to tokenize in well under a second.
    pub prompt_chars: usize,
    /// 8: each becomes hundreds of tokens.
    pub images: usize,
    /// 20 MiB of one image file: what the OpenAI API took for long, so clients that shrink images shrink to it.
    pub image_bytes: usize,
    /// 64 million: every phone camera's usual output, and a third of Pillow's alarm (178 956 970).
    /// A file of 400 kB can claim 400 million.
    pub image_pixels: u64,
    /// 512 MiB: 64 million pixels at 8 bytes, the widest that common files hold (RGBA of 16 bits).
    pub image_alloc: u64,
    /// 2 at a time: with `image_alloc` it bounds the memory that decoding may take to 1 GiB.
    pub image_decoders: usize,
    /// 128: OpenAI's limit for `n`; prompts of one request times answers to each.
    pub choices: usize,
    /// 128: OpenAI's limit.
    pub tools: usize,
    /// 10 s: what a schema may take to compile; a large one takes less than one.
    pub compile_time: Duration,
    /// 2 at a time, so that schemas leave processors to everybody else.
    pub compilers: usize,
    /// 600 s: as long as OpenAI's clients wait. None: for ever.
    pub request_time: Option<Duration>,
    /// None: where images may be fetched from, names of hosts in lower case. What a client names is never fetched from anywhere else.
    pub image_hosts: Vec<String>,
    /// 8 at a time: each waits for somebody else's server, on a thread of its own.
    pub image_fetchers: usize,
    /// 10 s: fetching an image from where it is, all of it.
    pub fetch_time: Duration,
    /// 131 072: as long as the longest contexts in use. The engine stops at its own model's context anyway.
    pub max_tokens: usize,
    /// 16: OpenAI allows 4, others more; each is searched for after every token.
    pub stop_sequences: usize,
    /// 256: the engine holds back that much text while it could still be the start of one.
    pub stop_chars: usize,
    /// 10 s: a stream waits so long for the engine's first word, so that an early failure is an HTTP status and not an
    /// error inside a stream that began with 200. After that it begins and keeps alive.
    pub first_event: Duration,
    /// 15 s between comments on a silent stream: proxies cut idle connections at 30 s and more.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 * MIB,
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            body_drain_bytes: 64 * MIB,
            messages: 1024,
            prompt_chars: 1_000_000,
            images: 8,
            image_bytes: 20 * MIB,
            image_pixels: 64_000_000,
            image_alloc: 512 * MIB as u64,
            image_decoders: 2,
            choices: 128,
            tools: 128,
            compile_time: Duration::from_secs(10),
            compilers: 2,
            request_time: Some(Duration::from_secs(600)),
            image_hosts: Vec::new(),
            image_fetchers: 8,
            fetch_time: Duration::from_secs(10),
            max_tokens: 131_072,
            stop_sequences: 16,
            stop_chars: 256,
            first_event: Duration::from_secs(10),
            keep_alive: Duration::from_secs(15),
        }
    }
}
