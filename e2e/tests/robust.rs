//! What happens when something dies, lies or fills up: on both systemds, judged by systemd's, the kernel's and the file
//! system's state. `docs/faults.md` says which case of the fault catalogue is where.

mod big;
mod bus;
mod catalogue;
mod disk;
mod dpkg;
mod exits;
mod interference;
mod kill_loop;
pub(crate) mod kill_walk;
pub(crate) mod leaks;
mod life;
pub(crate) mod load;
mod lossy_bus;
mod orphans;
mod run;
mod signals;
mod stall;
mod start_errors;
pub(crate) mod support;
mod upgrade;
mod volume_kill;
