//! Log lines of containers.
