//! Extism, the generic framework for plugins: bytes in, bytes out, one call a record.

use std::{borrow::Cow, time::Duration};

use anyhow::Result;
use extism::{Manifest, Plugin, PluginBuilder, Wasm};

use crate::{corpus::Input, peer::Peer};

/// As our plugins have: 64 MiB in pages of 64 KiB.
const PAGES: u32 = 1024;
const TIMEOUT: Duration = Duration::from_millis(500);

pub struct Extism(Plugin);

impl Extism {
    pub fn peer(guest: Vec<u8>) -> Result<Box<dyn Peer>> {
        let manifest =
            Manifest::new([Wasm::data(guest)]).with_memory_max(PAGES).with_timeout(TIMEOUT);
        let plugin = PluginBuilder::new(manifest).with_cache_disabled().build()?;
        Ok(Box::new(Self(plugin)))
    }
}

impl Peer for Extism {
    fn redact<'a>(&'a mut self, records: &'a [Input]) -> Result<Vec<Cow<'a, str>>> {
        let mut texts = Vec::with_capacity(records.len());
        for record in records {
            // What it answers is gone with the next call, so it is copied.
            let text: String = self.0.call("redact", record.text.as_str())?;
            texts.push(Cow::Owned(text));
        }
        Ok(texts)
    }
}
