# Every step of CI is a recipe here, and a person runs the same ones. `just --list` shows them.

set shell := ["bash", "-euo", "pipefail", "-c"]

export CARGO_TERM_COLOR := env("CARGO_TERM_COLOR", "auto")

# One selection everywhere: another one resolves other features, and wasmtime is built again.
everything := "--release --workspace --all-targets"

# Serve the demo model
serve *flags:
    cargo run --release -- serve {{flags}}

# Everything that CI runs
ci: fmt lint model test docs plugins-check bench-smoke cuda-types

# Formatting of Rust
fmt:
    cargo fmt --all --check

# Clippy, warnings denied
lint *flags:
    cargo clippy {{everything}} {{flags}} -- -D warnings

# Unit and integration tests; one thread of arithmetic, so that tests do not fight over the cores
test *flags:
    CANDLE_NUM_THREADS=1 cargo test --release --workspace --lib --bins --tests {{flags}}
    cargo test --release --workspace --doc

# Documentation, warnings denied
docs:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --release --workspace --no-deps --quiet

# Build the plugins from source into plugins/components
plugins:
    scripts/plugins.sh

# Build the plugins and compare them with the committed components
plugins-check:
    scripts/plugins.sh --check

# One quick turn of each benchmark, to see that it works
bench-smoke:
    BENCH_SMOKE=1 cargo bench --workspace --bench chain --bench patterns --bench request_path --bench live --bench batching --bench decode --bench serving --bench soak

# Measure: one line `ratio NAME VALUE goal OP TARGET` a figure, and a table of all of them at the end
bench *flags:
    scripts/bench.sh {{flags}}

# An hour of mixed traffic: memory, open files, the cache, one end a request; `just soak --minutes 5` for another time
soak *flags="--long":
    cargo bench --workspace --bench soak -- {{flags}}

# Every misdeed of a guest in every situation; or those cases whose names begin so: `just faults hostile/trap`
faults cases="all":
    CANDLE_NUM_THREADS=1 BUCKSAW_FAULTS={{quote(cases)}} cargo test --release --workspace --test it faults::

# Measure redaction against other plugin hosts and scanners; the first run builds and installs for long
bench-peers *flags:
    benches/peers/run.sh {{flags}}

# Measure the engine against llama.cpp and mistral.rs on the same GGUF files; the first run compiles both
bench-engines:
    benches/engines/run.sh

# Other people's clients against a server: openai-python's own tests, openai-node, LiteLLM, LangChain
clients *flags:
    tests/clients/run.sh {{flags}}

# A fuzzing client (schemathesis) against the specification that the server serves
fuzz *flags:
    cargo build --release --bin bucksaw
    tests/clients/fuzz.sh target/release/bucksaw {{flags}}

# Fetch SmolLM2-135M-Instruct (98 MB) into models/
model:
    scripts/model.sh

# Compile and link the cuda feature without a GPU and without NVIDIA's files
cuda-check:
    scripts/cuda-check.sh

# Clippy over the engine's code behind the cuda feature, without a GPU and without NVIDIA's files
cuda-types:
    scripts/cuda-check.sh --types

# Build for GPUs with the CUDA toolkit that is here; the program starts without a driver, too
cuda-build:
    scripts/cuda-build.sh

# The engine's tests on a GPU: golden tokens, memory, out of memory, times; says so where there is none
gpu-test:
    scripts/gpu-test.sh
