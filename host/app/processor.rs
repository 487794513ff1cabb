//! Whether this processor can run the program at all.

/// Looks for the instructions that the program was compiled for, so that their absence is a sentence and not a crash.
///
/// # Errors
/// The sentence.
#[cfg(target_arch = "x86_64")]
pub fn check() -> Result<(), String> {
    let has = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("bmi2", std::arch::is_x86_feature_detected!("bmi2")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
    ];
    let missing: Vec<&str> = has.iter().filter(|(_, it)| !it).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this processor lacks {}, and the program was built for x86-64-v3 (2013 and later): build it on this machine with \
         RUSTFLAGS=\"-C target-cpu=native\"",
        missing.join(", ")
    ))
}

#[cfg(not(target_arch = "x86_64"))]
pub fn check() -> Result<(), String> {
    Ok(())
}
