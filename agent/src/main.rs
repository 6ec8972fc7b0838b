//! systemk: a Kubernetes node whose container runtime is systemd.

mod launch;

fn main() {
    if let Some(code) = launch::dispatch(std::env::args_os()) {
        std::process::exit(code);
    }
}
//! `systemk`: a Kubernetes node whose container runtime is systemd.
#[allow(dead_code)]
mod systemd;
#[allow(dead_code, reason = "the loop that calls it is being written")]
mod packages;
fn main() {}
