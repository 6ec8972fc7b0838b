//! The command line as a person meets it, on systemd 252 and 257: exit codes, what comes on standard output and what on
//! standard error, the words that matter, and what is there and what is gone afterwards.

mod config;
mod foreground;
mod install;
mod logs;
mod plan;
mod ps;
mod rm;
mod run;
mod support;
