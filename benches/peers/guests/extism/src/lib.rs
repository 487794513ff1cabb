//! A plugin of Extism, by its own kit, that does the job on its input.

use extism_pdk::{plugin_fn, FnResult};
#[cfg(not(feature = "scanner"))]
use rules as finder;
#[cfg(feature = "scanner")]
use scanner as finder;

#[plugin_fn]
pub fn redact(text: String) -> FnResult<String> {
    let redacted = finder::redact(&text);
    Ok(redacted.unwrap_or(text))
}
