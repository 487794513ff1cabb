//! The plugin host of an LLM gateway, SMG: a middleware component over the body of each request.

use std::{borrow::Cow, sync::Arc};

use anyhow::{Context, Result, bail};
use smg_wasm::{
    MiddlewareAttachPoint, WasmComponentInput, WasmModule, WasmModuleAttachPoint,
    WasmModuleManager, WasmModuleMeta, WasmRuntimeConfig,
    smg::gateway::middleware_types::{Action, Request},
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::{corpus::Input, peer::Peer};

pub struct Smg {
    runtime: Runtime,
    manager: WasmModuleManager,
    module: WasmModule,
}

/// Where a module is called.
const POINT: WasmModuleAttachPoint =
    WasmModuleAttachPoint::Middleware(MiddlewareAttachPoint::OnRequest);

impl Smg {
    pub fn peer(guest: Vec<u8>) -> Result<Box<dyn Peer>> {
        let config = WasmRuntimeConfig { thread_pool_size: 1, ..WasmRuntimeConfig::default() };
        let manager = WasmModuleManager::new(config);
        let module = WasmModule {
            module_uuid: Uuid::new_v4(),
            module_meta: WasmModuleMeta {
                name: "redact".to_owned(),
                file_path: "redact.wasm".to_owned(),
                // The key of its cache of compiled modules; each manager here has one module.
                sha256_hash: [1; 32],
                size_bytes: guest.len() as u64,
                created_at: 0,
                last_accessed_at: 0,
                access_count: 0,
                attach_points: vec![POINT],
                wasm_bytes: Arc::new(guest),
            },
        };
        manager.register_module_internal(module.clone())?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Box::new(Self { runtime, manager, module }))
    }

    async fn call<'a>(&self, input: &'a Input) -> Result<Cow<'a, str>> {
        let request = Request {
            method: "POST".to_owned(),
            path: "/v1/chat/completions".to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: input.text.clone().into_bytes(),
            request_id: String::new(),
            now_epoch_ms: 0,
        };
        let request = WasmComponentInput::MiddlewareRequest(request);
        let action = self.manager.execute_module_for_attach_point(&self.module, POINT, request);
        // The gateway goes on without the plugin when there is no answer; here that is a failure.
        match action.await.context("the module failed")? {
            Action::Continue => Ok(Cow::Borrowed(input.text.as_str())),
            Action::Modify(it) => {
                let body = it.body_replace.context("a change without a body")?;
                Ok(Cow::Owned(String::from_utf8(body)?))
            }
            Action::Reject(status) => bail!("rejected with {status}"),
        }
    }
}

impl Peer for Smg {
    fn redact<'a>(&'a mut self, records: &'a [Input]) -> Result<Vec<Cow<'a, str>>> {
        self.runtime.block_on(async {
            let mut texts = Vec::with_capacity(records.len());
            for record in records {
                texts.push(self.call(record).await?);
            }
            anyhow::Ok(texts)
        })
    }
}
