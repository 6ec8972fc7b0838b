//! The system calls that rustix does not wrap. The only module of the binary that may use `unsafe`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

/// Whether SIGPIPE was ignored when the process began: Rust's runtime ignores it before `main`, so `main` cannot tell.
static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Runs before Rust's runtime does, as a constructor.
// SAFETY: the section holds pointers to functions that the C runtime calls with (argc, argv, envp), which the C calling
// convention allows a function without parameters to ignore.
#[unsafe(link_section = ".init_array")]
#[used]
static SEE_SIGPIPE: extern "C" fn() = see_sigpipe;

extern "C" fn see_sigpipe() {
    // SAFETY: `sigaction` is plain data for which zeroes are a valid value; a null new action only reads the present one.
    let ignored = unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    };
    SIGPIPE_WAS_IGNORED.store(ignored, Ordering::Relaxed);
}

/// Undoes what would cross an exec: Rust's ignored SIGPIPE goes back to what the unit said (`IgnoreSIGPIPE=`), no signal
/// stays blocked. Handlers need nothing, the kernel resets those.
pub(crate) fn restore_signals() {
    let sigpipe = if SIGPIPE_WAS_IGNORED.load(Ordering::Relaxed) { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: SIG_IGN and SIG_DFL run no code of ours; the set is initialised by sigemptyset before it is read. Neither
    // call can fail with these arguments.
    unsafe {
        libc::signal(libc::SIGPIPE, sigpipe);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Closes every descriptor from 3 up, whoever leaked it (CVE-2024-21626). Call before anything of ours is open.
pub(crate) fn close_inherited() -> Result<(), Errno> {
    // SAFETY: nobody in this process owns a descriptor above 2 yet, so none is closed under its owner.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
    if done == 0 { Ok(()) } else { close_listed() }
}

/// [`close_inherited`] on kernels before 5.9 and under filters that do not know the call.
fn close_listed() -> Result<(), Errno> {
    let errno = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").map_err(errno)? {
        let name = entry.map_err(errno)?.file_name();
        open.extend(name.to_str().and_then(|n| n.parse::<i32>().ok()).filter(|fd| *fd > 2));
    }
    for fd in open {
        // SAFETY: as in `close_inherited`; the listing's own descriptor is already closed, closing it again only fails.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Makes `fd` standard input, to be inherited by the program.
pub(crate) fn become_stdin(fd: OwnedFd) -> Result<(), Errno> {
    // SAFETY: descriptor 0 belongs to nobody: `std::io::stdin` only borrows it.
    let done = unsafe { libc::dup2(fd.as_raw_fd(), 0) };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Makes the mount tree at `mount` read-only, as a whole or not at all (Linux 5.12). `slave`: it also gets what is mounted
/// on its origin from now on, and gives nothing back.
///
/// # Errors
/// `NOSYS` on older kernels and under filters, `INVAL` where nothing is mounted at `mount`.
pub(crate) fn make_mounts_read_only(mount: impl AsFd, slave: bool) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: if slave { libc::MS_SLAVE } else { 0 },
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the descriptor lives through the call, the path is an empty NUL-terminated string, and the attributes are
    // plain data whose size is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Whether [`make_mounts_read_only`] is there at all: asked for nothing, a kernel that knows the call finds that wrong.
pub(crate) fn knows_mount_attributes() -> bool {
    // SAFETY: with a size of 0 the kernel reads no attributes; it refuses the size before it looks at anything else.
    let done = unsafe { libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, std::ptr::null::<u8>(), 0_usize) };
    done != 0 && last_errno() == Errno::INVAL
}

/// Replaces this process. Comes back only with the reason why not.
pub(crate) fn execve(path: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    let argv = pointers(argv);
    let env = pointers(env);
    // SAFETY: both arrays end with a null pointer and point to NUL-terminated strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    last_errno()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
