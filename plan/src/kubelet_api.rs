//! The pure part of the node's HTTPS endpoint: what a request needs leave for, who a bearer of a token claims to be, and how
//! long an answer of the API server is good for. Time comes in as an argument.

pub mod access;
pub mod cache;
