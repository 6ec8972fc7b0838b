//! The repository's commands: `cargo xtask --help`.

mod node;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The repository's commands. Each installs or builds what it needs, and keeps it in the user's cache (SYSTEMK_CACHE).
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sandbox nodes that stay: a real systemd in its own namespaces, up in a second
    #[command(subcommand)]
    Node(node::Node),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Node(node) => node::main(node),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
