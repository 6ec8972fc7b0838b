//! Pod fields, one module per group.

pub mod downward;
pub mod env;
pub mod expansion;
pub mod files;
pub mod resources;

#[cfg(test)]
pub(crate) mod fixtures;
