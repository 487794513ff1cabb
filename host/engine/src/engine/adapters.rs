//! Adapters that come and go while the engines run: on all of them or on none.

use std::{path::PathBuf, sync::Arc};

use super::{
    EngineHandle, ServedModel,
    fleet::Fleet,
    member::{Answer, Member},
};
use crate::{error::AdapterChangeError, scheduler::Message};

/// Longer than any name that people give; names stand in every record of their jobs.
const ADAPTER_NAME_BYTES_MAX: usize = 128;

impl EngineHandle {
    /// Reads a LoRA adapter in a folder, as `save_pretrained` of PEFT writes it, and serves it under `name` from then on.
    /// Jobs under way stand still while an engine reads it. If one engine cannot have it, none has it.
    ///
    /// It goes on when the future is dropped, on a task of the tokio runtime in which it is polled.
    pub async fn load_adapter(
        &self,
        name: &str,
        folder: PathBuf,
    ) -> Result<ServedModel, AdapterChangeError> {
        let is_plain = |it: char| it.is_ascii_alphanumeric() || "._-/:@".contains(it);
        if name.is_empty() || name.len() > ADAPTER_NAME_BYTES_MAX || !name.chars().all(is_plain) {
            return Err(AdapterChangeError::BadName { longest: ADAPTER_NAME_BYTES_MAX });
        }
        // On a task of its own: a caller that goes away must not leave it on some of the engines.
        let (fleet, name) = (Arc::clone(&self.fleet), name.to_owned());
        let loading = tokio::spawn(async move { load(&fleet, &name, folder).await });
        loading.await.unwrap_or(Err(AdapterChangeError::ShuttingDown))
    }

    /// Serves an adapter no longer. New jobs don't find it from now on; those that were taken finish with it, and then this
    /// returns.
    pub async fn unload_adapter(&self, name: &str) -> Result<(), AdapterChangeError> {
        let asked = {
            let _changes = self.fleet.changes.lock().await;
            self.fleet.withdraw(name);
            ask_to_unload(self.fleet.members.iter(), name)
        };
        let mut found = Err(AdapterChangeError::ShuttingDown);
        for answer in asked {
            match answer.wait().await {
                // Of an engine that is gone nobody waits for anything.
                Err(AdapterChangeError::ShuttingDown) => {}
                answer => found = answer,
            }
        }
        found
    }
}

async fn load(
    fleet: &Fleet,
    name: &str,
    folder: PathBuf,
) -> Result<ServedModel, AdapterChangeError> {
    let _changes = fleet.changes.lock().await;
    let ask = |reply| Message::Load { name: name.to_owned(), folder: folder.clone(), reply };
    let asked: Vec<_> = fleet.members.iter().map(|it| it.ask(ask)).collect();
    let (mut loaded, mut problem) = (Vec::new(), None);
    for (member, answer) in fleet.members.iter().zip(asked) {
        match answer.wait().await {
            Ok(model) => loaded.push((member, model)),
            // It is gone, and the others serve.
            Err(AdapterChangeError::ShuttingDown) => {}
            Err(error) => problem = Some(error),
        }
    }
    if let Some(problem) = problem {
        let asked = ask_to_unload(loaded.iter().map(|(member, _)| *member), name);
        for answer in asked {
            // No job has it, so nothing but a shutdown keeps an engine from giving it up.
            let _ = answer.wait().await;
        }
        return Err(problem);
    }
    let Some((_, model)) = loaded.into_iter().next() else {
        return Err(AdapterChangeError::ShuttingDown);
    };
    fleet.publish(model.clone());
    Ok(model)
}

fn ask_to_unload<'a>(members: impl Iterator<Item = &'a Member>, name: &str) -> Vec<Answer<()>> {
    let unload = |reply| Message::Unload { name: name.to_owned(), reply };
    members.map(|it| it.ask(unload)).collect()
}
