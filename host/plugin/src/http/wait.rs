//! `wasi:io` with an end: the library's streams and pollables, waited for until the deadline of the entry and no longer.
//! A guest that waits is in no wasm, so the epoch would not stop it.

use std::{thread, time::Instant};

use tokio::{runtime::Handle, time::timeout_at};
use wasmtime::{
    Trap,
    component::{HasData, Resource, ResourceTable},
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult,
    bindings::{
        io::{poll, streams},
        sync::io as sync,
    },
};

/// The table with the guest's streams, and how long they may be waited for.
pub(super) struct Io<'a> {
    pub(super) table: &'a mut ResourceTable,
    pub(super) runtime: Option<&'a Handle>,
    pub(super) deadline: Instant,
    /// Whether the guest handles records, on a thread of its own. Else any thread may be the one that waits.
    pub(super) open: bool,
}

pub(super) struct HasIo;

impl HasData for HasIo {
    type Data<'a> = Io<'a>;
}

pub(super) struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

impl Io<'_> {
    /// What `work` comes to, or the trap of a deadline.
    fn wait<'a, T: Send, F: Future<Output = T> + Send>(
        &'a mut self,
        work: impl FnOnce(&'a mut ResourceTable) -> F,
    ) -> wasmtime::Result<T> {
        let deadline = self.deadline.into();
        let runtime = self.runtime.ok_or(Trap::Interrupt)?;
        let work = work(self.table);
        let wait = || runtime.block_on(async { timeout_at(deadline, work).await });
        let done = match self.open {
            true => wait().ok(),
            // It may be a thread of another runtime, which must not wait.
            false => thread::scope(|it| it.spawn(wait).join()).ok().and_then(Result::ok),
        };
        done.ok_or_else(|| Trap::Interrupt.into())
    }

    fn wait_stream<'a, T: Send, F: Future<Output = StreamResult<T>> + Send>(
        &'a mut self,
        work: impl FnOnce(&'a mut ResourceTable) -> F,
    ) -> StreamResult<T> {
        self.wait(work).map_err(StreamError::Trap)?
    }
}

impl sync::poll::Host for Io<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.wait(|it| poll::Host::poll(it, pollables))?
    }
}

impl sync::poll::HostPollable for Io<'_> {
    fn ready(&mut self, it: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.wait(|table| poll::HostPollable::ready(table, it))?
    }

    fn block(&mut self, it: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.wait(|table| poll::HostPollable::block(table, it))?
    }

    fn drop(&mut self, it: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, it)
    }
}

impl sync::streams::Host for Io<'_> {
    fn convert_stream_error(
        &mut self,
        error: StreamError,
    ) -> wasmtime::Result<sync::streams::StreamError> {
        sync::streams::Host::convert_stream_error(self.table, error)
    }
}

impl sync::streams::HostInputStream for Io<'_> {
    fn drop(&mut self, it: Resource<DynInputStream>) -> wasmtime::Result<()> {
        self.wait(|table| streams::HostInputStream::drop(table, it))?
    }

    fn read(&mut self, it: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        streams::HostInputStream::read(self.table, it, len)
    }

    fn blocking_read(&mut self, it: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        self.wait_stream(|table| streams::HostInputStream::blocking_read(table, it, len))
    }

    fn skip(&mut self, it: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        streams::HostInputStream::skip(self.table, it, len)
    }

    fn blocking_skip(&mut self, it: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        self.wait_stream(|table| streams::HostInputStream::blocking_skip(table, it, len))
    }

    fn subscribe(
        &mut self,
        it: Resource<DynInputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        streams::HostInputStream::subscribe(self.table, it)
    }
}

impl sync::streams::HostOutputStream for Io<'_> {
    fn drop(&mut self, it: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        self.wait(|table| streams::HostOutputStream::drop(table, it))?
    }

    fn check_write(&mut self, it: Resource<DynOutputStream>) -> StreamResult<u64> {
        streams::HostOutputStream::check_write(self.table, it)
    }

    fn write(&mut self, it: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        streams::HostOutputStream::write(self.table, it, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        it: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        self.wait_stream(|table| {
            streams::HostOutputStream::blocking_write_and_flush(table, it, bytes)
        })
    }

    fn flush(&mut self, it: Resource<DynOutputStream>) -> StreamResult<()> {
        streams::HostOutputStream::flush(self.table, it)
    }

    fn blocking_flush(&mut self, it: Resource<DynOutputStream>) -> StreamResult<()> {
        self.wait_stream(|table| streams::HostOutputStream::blocking_flush(table, it))
    }

    fn subscribe(
        &mut self,
        it: Resource<DynOutputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        streams::HostOutputStream::subscribe(self.table, it)
    }

    fn write_zeroes(&mut self, it: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        // The library makes them all before it looks whether there is room.
        let room =
            streams::HostOutputStream::check_write(self.table, Resource::new_borrow(it.rep()))?;
        if len > room {
            return Err(StreamError::trap("more zeroes than there is room for"));
        }
        streams::HostOutputStream::write_zeroes(self.table, it, len)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        it: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        self.wait_stream(|table| {
            streams::HostOutputStream::blocking_write_zeroes_and_flush(table, it, len)
        })
    }

    fn splice(
        &mut self,
        it: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        streams::HostOutputStream::splice(self.table, it, from, len)
    }

    fn blocking_splice(
        &mut self,
        it: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.wait_stream(|table| streams::HostOutputStream::blocking_splice(table, it, from, len))
    }
}
