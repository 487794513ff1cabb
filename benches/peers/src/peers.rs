//! Who takes part. A peer whose crate, guest or Python is not there is named with the reason.

mod bucksaw;
#[cfg(feature = "dd-sds")]
mod dd_sds;
#[cfg(feature = "extism")]
mod extism;
mod presidio;
mod regex;
#[cfg(feature = "smg-wasm")]
mod smg_wasm;
#[cfg(feature = "vrl")]
mod vrl;

use std::{fs, path::Path};

use anyhow::{Result, anyhow};

use crate::peer::{Contender, Goal};

/// A peer that is compiled in, or an error that names the feature that is missing.
macro_rules! built {
    ($folder:expr, $feature:tt, $peer:expr) => {{
        #[cfg(feature = $feature)]
        {
            $peer
        }
        #[cfg(not(feature = $feature))]
        {
            Err(missing($folder, $feature, "left out of this build"))
        }
    }};
}

/// All contenders, ours first. `folder` is where `run.sh` put what it built, `records` the file of the records.
pub fn all(folder: &Path, records: &Path) -> Vec<Contender> {
    vec![
        Contender::new("bucksaw", Goal::None, "batches of 64", bucksaw::component(64)),
        Contender::new("bucksaw-batch1", Goal::None, "one record a call", bucksaw::component(1)),
        Contender::new("bucksaw-native", Goal::None, "no sandbox", bucksaw::native(64)),
        Contender::new(
            "vrl",
            Goal::Sandboxed,
            "checks no check digits, so it also removes numbers that are no cards",
            built!(folder, "vrl", vrl::Vrl::peer()),
        ),
        Contender::new(
            "smg-wasm",
            Goal::Sandboxed,
            "regex in the guest; a new instance each call, so it compiles them each call",
            built!(
                folder,
                "smg-wasm",
                guest(folder, "smg-guest-rules").and_then(smg_wasm::Smg::peer)
            ),
        ),
        Contender::new(
            "extism",
            Goal::Sandboxed,
            "regex in the guest, which stays",
            built!(
                folder,
                "extism",
                guest(folder, "extism-guest-rules").and_then(extism::Extism::peer)
            ),
        ),
        Contender::new(
            "presidio",
            Goal::Sandboxed,
            "pattern recognizers and anonymizer, no language model",
            presidio::Presidio::peer(folder, records)
                .map_err(|it| missing(folder, "presidio", &format!("{it:#}"))),
        ),
        Contender::new(
            "smg-wasm-scanner",
            Goal::Host,
            "our scanner in the guest: the host alone",
            built!(
                folder,
                "smg-wasm",
                guest(folder, "smg-guest-scanner").and_then(smg_wasm::Smg::peer)
            ),
        ),
        Contender::new(
            "extism-scanner",
            Goal::Host,
            "our scanner in the guest: the host alone",
            built!(
                folder,
                "extism",
                guest(folder, "extism-guest-scanner").and_then(extism::Extism::peer)
            ),
        ),
        Contender::new(
            "dd-sds",
            Goal::Native,
            "native, no sandbox",
            built!(folder, "dd-sds", dd_sds::DdSds::peer()),
        ),
        Contender::new("regex", Goal::None, "native, no sandbox", Ok(Box::new(regex::Native))),
    ]
}

/// A component or module that `run.sh` built.
#[cfg(any(feature = "smg-wasm", feature = "extism"))]
fn guest(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join("guests").join(name).with_extension("wasm");
    fs::read(&path).map_err(|_| missing(folder, name, "its guest was not built"))
}

/// Why something is not there, in the words of the command that failed where `run.sh` kept them.
fn missing(folder: &Path, name: &str, otherwise: &str) -> anyhow::Error {
    let reason = fs::read_to_string(folder.join("reasons").join(name));
    match reason.as_deref().map(str::trim) {
        Ok(it) if !it.is_empty() => anyhow!("{it}"),
        _ => anyhow!("{otherwise}"),
    }
}
