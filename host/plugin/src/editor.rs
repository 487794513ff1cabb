//! An editor component as a stage.

use std::sync::Arc;

use chain::{Edit, Editor, Mode, Stage, StageError, Verdict};
use record::Record;
use wasmtime::component::Instance as Linked;

use crate::{
    bindings::v0_1::{editor, types},
    component::Loaded,
    instance::Instance,
    pack::Packer,
};

pub(crate) struct EditorInstance {
    plugin: Arc<Loaded>,
    instance: Instance,
    guest: editor::Guest,
    packer: Packer,
    ellipsis: Arc<str>,
}

impl EditorInstance {
    pub(crate) fn new(
        plugin: Arc<Loaded>,
        mut instance: Instance,
        linked: &Linked,
    ) -> Result<Self, StageError> {
        let guest = editor::GuestIndices::new(&plugin.pre)
            .and_then(|it| it.load(instance.store(), linked))
            .map_err(|_| StageError::Instantiate)?;
        Ok(Self { plugin, instance, guest, packer: Packer::new(), ellipsis: "ELLIPSIS".into() })
    }

    /// Asks the guest about the packed records. `verdicts` begin with that of the first record that was read.
    fn edit_packed(&mut self, verdicts: &mut [Verdict]) -> Result<(), StageError> {
        if self.packer.records.is_empty() {
            return Ok(());
        }
        let setup = &self.plugin.setup;
        self.packer.scan(&setup.patterns, self.plugin.settings.limits.work)?;
        let (guest, packed) = (&self.guest, &self.packer.batch);
        let answer = self.instance.enter(self.plugin.settings.limits.work, |store| {
            guest.call_edit_batch(store, packed)
        })?;
        if answer.verdicts.len() != self.packer.records.len() {
            return Err(StageError::BadAnswer);
        }
        for (packed, verdict) in answer.verdicts.iter().enumerate() {
            verdicts[self.packer.records[packed]] = self.verdict(verdict)?;
        }
        let mut rest = answer.edits.as_slice();
        while let Some(first) = rest.first() {
            let (record, values) =
                self.packer.record_of(first.value).ok_or(StageError::BadAnswer)?;
            let together = rest.iter().take_while(|it| values.contains(&it.value)).count();
            let (of_record, others) = rest.split_at(together);
            rest = others;
            let mut translated = Vec::with_capacity(together);
            for edit in of_record {
                translated.push(self.translate(edit)?);
            }
            // Edits of a record that is dropped or refused have nothing to do.
            if let Verdict::Keep(edits) = &mut verdicts[record] {
                if edits.is_empty() {
                    *edits = translated;
                } else {
                    edits.append(&mut translated);
                }
            }
        }
        Ok(())
    }

    /// What the guest said of one packed record, in the chain's terms.
    fn verdict(&self, verdict: &editor::Verdict) -> Result<Verdict, StageError> {
        match verdict.code {
            0 => Ok(Verdict::Keep(Vec::new())),
            1 => self.label(verdict.detail).map(Verdict::Drop),
            2 => Ok(Verdict::Fail(verdict.detail)),
            _ => Err(StageError::BadAnswer),
        }
    }

    fn translate(&self, edit: &types::Edit) -> Result<Edit, StageError> {
        let field = *self.packer.fields.get(edit.value as usize).ok_or(StageError::BadAnswer)?;
        let mode = match edit.mode {
            0 => Mode::Label,
            1 => Mode::Pseudonym,
            2 => Mode::Ellipsis,
            _ => return Err(StageError::BadAnswer),
        };
        let label = match mode {
            // Nothing is written but how much was cut.
            Mode::Ellipsis => self.ellipsis.clone(),
            Mode::Label | Mode::Pseudonym => self.label(edit.label)?,
        };
        Ok(Edit { field, start: edit.start as usize, end: edit.end as usize, label, mode })
    }

    /// Labels are declared before the first record is seen, so no content can hide in one.
    fn label(&self, index: u32) -> Result<Arc<str>, StageError> {
        self.plugin.setup.labels.get(index as usize).cloned().ok_or(StageError::BadAnswer)
    }
}

impl Stage for EditorInstance {
    fn is_worn(&self) -> bool {
        self.instance.is_worn()
    }
}

impl Editor for EditorInstance {
    fn edit(&mut self, batch: &[Record]) -> Result<Vec<Verdict>, StageError> {
        let mut verdicts = vec![Verdict::Keep(Vec::new()); batch.len()];
        let mut done = 0;
        while done < batch.len() {
            let rest = batch[done..].iter();
            let read = self.packer.pack(rest, &self.plugin.setup, false);
            let read = read.ok_or(StageError::Memory)?;
            self.edit_packed(&mut verdicts[done..])?;
            done += read;
        }
        Ok(verdicts)
    }

    fn longest_match(&self) -> Option<usize> {
        self.plugin.setup.longest_match
    }
}
