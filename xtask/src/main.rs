//! The repository's commands: `cargo xtask --help`.

mod bench;
mod cargo;
mod ci;
mod control_plane;
mod demo;
mod node;
mod release;
mod test;
mod tidy;

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
    /// Real pods under a real systemd, shown and removed again
    Demo(demo::Demo),
    /// Sandbox nodes that stay: a real systemd in its own namespaces, up in a second
    #[command(subcommand)]
    Node(node::Node),
    /// The control plane that such nodes share
    #[command(subcommand)]
    ControlPlane(control_plane::ControlPlane),
    /// All tests, or one ring of them; the last line is the sum
    Test(test::Test),
    /// Everything that a change has to pass, the tests last
    Ci(ci::Ci),
    /// Rewrite the goldens from what the code gives now
    Bless,
    /// Build the static binary that runs on any glibc distribution
    Release,
    /// Measure against peers in the same run
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Demo(demo) => demo::main(&demo),
        Command::Node(node) => node::main(node),
        Command::ControlPlane(control_plane) => control_plane::main(&control_plane),
        Command::Test(test) => test::main(&test),
        Command::Ci(ci) => ci::main(&ci),
        Command::Bless => ci::bless(),
        Command::Release => release::main(),
        Command::Bench(bench) => bench::main(&bench),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
