//! OCI images as registries and archives have them: what is said, without asking anybody.
//!
//! Texts and bytes in, typed values or the reason why not out. Everything here comes from somebody else: a registry, an
//! archive, a Secret. Sizes are bounded, digests and names match strict patterns, unknown fields are passed over as the
//! specification asks (image-spec 1.1, distribution-spec 1.1).

pub mod archive;
pub mod challenge;
pub mod config;
pub mod digest;
pub mod keyring;
pub mod layer;
pub mod manifest;
pub mod platform;
pub mod provider;
pub mod reference;
pub mod users;

pub use digest::Digest;
pub use platform::Platform;
pub use reference::Reference;
