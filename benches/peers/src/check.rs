//! Whether a peer does the job at all: every planted value is gone, and a text without values stays as it was.

use anyhow::ensure;

use crate::{corpus::Input, peer::Contender};

/// Runs every peer once over the records of a case, and adds what it did wrong to what is known of it.
pub fn check(contenders: &mut [Contender], records: &[Input]) {
    for contender in contenders {
        let counts = contender.ask(|peer| {
            let texts = peer.redact(records)?;
            ensure!(texts.len() == records.len(), "{} texts of {}", texts.len(), records.len());
            let pairs = || records.iter().zip(&texts);
            let left = |(input, text): (&Input, &std::borrow::Cow<'_, str>)| {
                input.planted.iter().filter(|it| text.contains(it.as_str())).count()
            };
            let clean = pairs().filter(|(input, _)| input.planted.is_empty());
            let changed = clean.filter(|(input, text)| **text != input.text).count();
            Ok((pairs().map(left).sum::<usize>(), changed))
        });
        if let Some((left, changed)) = counts {
            contender.left += left;
            contender.planted += records.iter().map(|it| it.planted.len()).sum::<usize>();
            contender.changed += changed;
        }
    }
}
