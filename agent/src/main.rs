//! `systemk`: a Kubernetes node whose container runtime is systemd.

mod app;
mod brief;
mod causes;
mod cli;
mod cluster;
mod config;
mod events;
mod facts;
mod files;
mod images;
mod launch;
mod logs;
mod machine;
mod manifests;
mod packages;
mod reconcile;
mod server;
mod sys;
mod systemd;
mod wake;
mod world;

use std::process::ExitCode;

use config::{Invocation, Surroundings};

fn main() -> ExitCode {
    // Before anything else: `init` stands before every program of every container.
    if let Some(code) = launch::dispatch(std::env::args_os()) {
        std::process::exit(code);
    }
    let invocation = match config::read(std::env::args_os(), &Surroundings::of_process()) {
        Ok(invocation) => invocation,
        Err(refused) => {
            if refused.code == 0 {
                print!("{}", refused.text);
            } else {
                eprint!("{}", refused.text);
            }
            return ExitCode::from(refused.code);
        }
    };
    let ended = match invocation {
        Invocation::Agent(config) => app::main(*config),
        Invocation::Command(command) => cli::main(command),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("systemk: {error:#}");
            ExitCode::FAILURE
        }
    }
}
