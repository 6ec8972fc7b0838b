//! The fixtures themselves, on the real thing. Needs root and a package archive.

mod sandbox;
