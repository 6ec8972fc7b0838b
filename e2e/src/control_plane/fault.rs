//! Faults of the API server, for tests of what a node does then.

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{ControlPlane, Part};
use crate::process::Process;

impl ControlPlane {
    /// Stops the API server in the middle of whatever it does (SIGSTOP): connections stay open and nothing is answered.
    pub fn pause_api_server(&self) -> Result<()> {
        self.api_server().map(|process| process.signal(Signal::STOP))
    }

    /// Lets a paused API server go on.
    pub fn resume_api_server(&self) -> Result<()> {
        self.api_server().map(|process| process.signal(Signal::CONT))
    }

    /// Kills the API server (SIGKILL): connections break and new ones are refused.
    pub fn kill_api_server(&mut self) -> Result<()> {
        let process = self.api_server()?;
        process.kill();
        if let Some(mut child) = self.children.remove(&Part::ApiServer) {
            child.wait().context("wait for the killed API server")?;
        }
        Ok(())
    }

    /// Starts a killed API server again, at the same port and with the same data, and waits until it is ready.
    pub fn start_api_server(&mut self) -> Result<()> {
        self.run()
    }

    fn api_server(&self) -> Result<Process> {
        let process = self.record.processes.get(&Part::ApiServer).copied().filter(|process| process.alive());
        let Some(process) = process else { bail!("the API server of {} does not run", self.name()) };
        Ok(process)
    }
}
