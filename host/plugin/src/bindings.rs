//! The versions of the contract that this host speaks. A component is bound by the version in its exports' names.

pub(crate) mod v0_1;
