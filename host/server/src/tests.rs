//! The whole server over the demo model, on real sockets and in this process, so that its engine can be stopped and made to fail
//! at a step.

mod endings;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, mpsc},
};

use engine::{DeviceChoice, Engine, EngineError, ModelSource};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What the engine does at its next steps; where nothing is said, what it should.
enum Step {
    Pass,
    Panic,
    OutOfMemory,
    /// Says so and waits until the sender is gone.
    Wait(UnboundedSender<()>, mpsc::Receiver<()>),
}

type Steps = Arc<Mutex<VecDeque<Step>>>;

/// An engine whose steps are a matter of the test. `queue`: see [`engine::Config`].
fn engine_with(steps: &Steps, queue: usize) -> Engine {
    let steps = Arc::clone(steps);
    let before_step = move || {
        let next = steps.lock().unwrap().pop_front();
        match next {
            None | Some(Step::Pass) => {}
            Some(Step::Panic) => panic!("a bad kernel"),
            Some(Step::OutOfMemory) => {
                return Err(EngineError::OutOfMemory("CUDA_ERROR_OUT_OF_MEMORY".to_owned()));
            }
            Some(Step::Wait(entered, gate)) => {
                entered.send(()).unwrap();
                let _ = gate.recv();
            }
        }
        Ok(())
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/demo-model/checkpoint");
    let config = engine::Config {
        model: ModelSource::Folder(folder),
        name: Some("demo".to_owned()),
        adapters: Vec::new(),
        devices: vec![DeviceChoice::Cpu],
        queue,
        max_num_seqs: None,
        max_num_batched_tokens: None,
        image_tokens: None,
        kv_cache_bytes: None,
        gpu_memory_utilization: None,
        // The same work each time.
        prefix_caching: false,
        adapter_fallback: false,
        threads: 1,
        dequantize: false,
        dtype: engine::DtypeChoice::Auto,
        nvml_library: None,
        before_step: Some(Arc::new(before_step)),
    };
    engine::start(config).unwrap()
}

/// A step at which the engine waits, and what tells and ends that.
fn wait() -> (Step, UnboundedReceiver<()>, mpsc::Sender<()>) {
    let (entered, is_entered) = unbounded_channel();
    let (release, gate) = mpsc::channel();
    (Step::Wait(entered, gate), is_entered, release)
}

/// A client that speaks HTTP by hand, so that it can leave.
struct Client(tokio::net::TcpStream);

impl Client {
    async fn send(address: SocketAddr, path: &str, body: &str) -> Self {
        use tokio::io::AsyncWriteExt as _;
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// What comes up to this, or up to the end.
    async fn read_until(&mut self, wanted: Option<&str>) -> String {
        use tokio::io::AsyncReadExt as _;
        let mut all = Vec::new();
        loop {
            // An end that is none is the server's way to say that an answer is incomplete.
            let count = self.0.read_buf(&mut all).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&all);
            if count == 0 || wanted.is_some_and(|it| text.contains(it)) {
                return text.into_owned();
            }
        }
    }
}
