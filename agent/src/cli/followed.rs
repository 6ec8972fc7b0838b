//! Not here.
