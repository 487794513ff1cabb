//! What an entry is found by: a digest of everything that compiled code depends on.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use sha2::{Digest, Sha256};
use wasmtime::Engine;

/// How entries are laid out: another number makes all older ones unknown.
const FORMAT: u32 = 1;

/// SHA-256 of the layout, of wasmtime's version, target and flags, and of a component's bytes. In lower-case hexadecimal it is
/// the name of a file.
pub(super) struct Name([u8; 32]);

impl Name {
    pub(super) fn new(engine: &Engine, bytes: &[u8]) -> Self {
        let mut compatibility = DigestHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut compatibility);
        let digest = Sha256::new()
            .chain_update(FORMAT.to_le_bytes())
            .chain_update(compatibility.0.finalize())
            .chain_update(bytes)
            .finalize();
        Self(digest.into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, "{it:02x}"))
    }
}

/// Collects what a value hashes. The hashers of `std` give 64 bits, too few to tell compilers apart for certain, and promise
/// no algorithm.
struct DigestHasher(Sha256);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        digest.first_chunk().copied().map_or(0, u64::from_le_bytes)
    }
}
