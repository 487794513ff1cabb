//! Outbound HTTP for handlers: `wasi:http` and the parts of `wasi:io` and `wasi:clocks` that it is made of, and nothing else of
//! WASI. Which requests may go out is decided in [`policy`], how many in [`limiter`]; [`send`] makes them, and [`wait`] sees to it
//! that no wait goes beyond the deadline of the entry that the guest is in.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::runtime::{Builder, Handle, Runtime};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::{
    clocks::{WasiClocks, WasiClocksCtx, WasiClocksCtxView},
    p2::bindings::{clocks::monotonic_clock, io::error, sync::io as sync_io},
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use self::{
    limiter::{Limiter, Limiters},
    policy::Policy,
    send::Hooks,
    wait::{HasIo, HasTable, Io},
};
use crate::instance::GuestState;

mod limiter;
mod policy;
mod send;
#[cfg(test)]
mod tests;
mod wait;

/// What a component may import when a host is granted, each in any version 0.2 of WASI.
pub(crate) const IMPORTS: [&str; 6] = [
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/monotonic-clock",
];

/// Whether an import is one of [`IMPORTS`].
pub(crate) fn is_import(name: &str) -> bool {
    name.split_once("@0.2.").is_some_and(|(it, _)| IMPORTS.contains(&it))
}

/// Requests, responses, bodies and headers that a guest may hold at once.
const RESOURCES_MAX: usize = 256;
/// What one set of headers may take in the host's memory; what may be sent of it is less.
const FIELDS_BYTES_MAX: usize = 32 << 10;
/// Requests under way, of all plugins together: each has a thread while it lasts.
const SENDERS_MAX: usize = 32;

/// The network as plugins see it; shared by all of them.
#[derive(Clone, Default)]
pub(crate) struct Network {
    threads: Arc<Threads>,
    limiters: Arc<Limiters>,
    /// Nothing goes out, whatever is granted.
    closed: bool,
}

/// Started with the first plugin that needs it.
#[derive(Default)]
struct Threads(Mutex<Option<Runtime>>);

/// What one plugin was granted.
#[derive(Clone)]
pub(crate) struct Outbound {
    policy: Arc<Policy>,
    limiter: Arc<Limiter>,
}

impl Network {
    /// The same threads, with nothing that goes out: for trying a plugin without effect.
    pub(crate) fn closed(&self) -> Self {
        Self { closed: true, ..self.clone() }
    }

    /// What the plugin of this name may use of it, while it handles records.
    pub(crate) fn outbound(&self, plugin: &str, hosts: &[String]) -> Option<Outbound> {
        let policy = Arc::new(Policy::new(hosts));
        (!self.closed).then(|| Outbound { policy, limiter: self.limiters.of(plugin) })
    }

    /// # Errors
    /// When no thread can be started.
    pub(crate) fn handle(&self) -> io::Result<Handle> {
        let mut threads = self.threads.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = threads.as_ref() {
            return Ok(it.handle().clone());
        }
        let started = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(SENDERS_MAX)
            .thread_name("plugin-http")
            .enable_time()
            .build()?;
        Ok(threads.insert(started).handle().clone())
    }
}

impl Drop for Threads {
    /// A runtime that is dropped waits for its threads, which may not be waited for everywhere.
    fn drop(&mut self) {
        let threads = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = threads.take() {
            it.shutdown_background();
        }
    }
}

/// Words for what was denied or went wrong, and how often.
#[derive(Clone, Default)]
pub(crate) struct Denials(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Denials {
    fn count(&self, what: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    fn take(&self) -> Vec<(&'static str, u64)> {
        let mut denials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *denials).into_iter().collect()
    }
}

/// The part of one guest; empty for one that imports nothing of it.
pub(crate) struct GuestHttp {
    table: ResourceTable,
    http: WasiHttpCtx,
    clocks: WasiClocksCtx,
    hooks: Hooks,
    runtime: Option<Handle>,
    denials: Denials,
}

impl GuestHttp {
    /// Closed until something is lent. `runtime`: for a guest that imports any of it.
    pub(crate) fn new(runtime: Option<Handle>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        let denials = Denials::default();
        let hooks = Hooks::new(denials.clone());
        Self { table, http, clocks: WasiClocksCtx::default(), hooks, runtime, denials }
    }

    pub(crate) fn lend(&mut self, outbound: Option<Outbound>) {
        self.hooks.outbound = outbound;
    }

    /// A new entry into the guest begins, and has to end by then.
    pub(crate) fn begin(&mut self, deadline: Instant) {
        self.hooks.deadline = deadline;
    }

    /// Where the library's tasks are to run.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.runtime.clone()
    }

    /// What was denied since this was last asked.
    pub(crate) fn take_denials(&self) -> Vec<(&'static str, u64)> {
        self.denials.take()
    }

    fn io(&mut self) -> Io<'_> {
        let (deadline, open) = (self.hooks.deadline, self.hooks.outbound.is_some());
        Io { table: &mut self.table, runtime: self.runtime.as_ref(), deadline, open }
    }

    fn clocks(&mut self) -> WasiClocksCtxView<'_> {
        WasiClocksCtxView { ctx: &mut self.clocks, table: &mut self.table }
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let it = &mut self.http;
        WasiHttpCtxView { ctx: &mut it.http, table: &mut it.table, hooks: &mut it.hooks }
    }
}

/// Links exactly [`IMPORTS`].
pub(crate) fn link(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    error::add_to_linker::<_, HasTable>(linker, |it| &mut it.http.table)?;
    sync_io::poll::add_to_linker::<_, HasIo>(linker, |it| it.http.io())?;
    sync_io::streams::add_to_linker::<_, HasIo>(linker, |it| it.http.io())?;
    monotonic_clock::add_to_linker::<_, WasiClocks>(linker, |it| it.http.clocks())?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_sync(linker)
}
