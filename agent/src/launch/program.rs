//! Finding and executing the program, and saying in a kubelet user's words why that failed.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::failure::{StepError, describe};
use crate::sys;

/// Where a bare name is looked for if the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The kernel's limit for one string (MAX_ARG_STRLEN on 4 KiB pages), its NUL included.
const STRING_LIMIT: usize = 128 * 1024;

/// What execve takes.
pub(super) struct Exec<'l> {
    /// A path or a bare name.
    pub(super) program: &'l str,
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    /// The value of `PATH` in `env`.
    pub(super) path: Option<Vec<u8>>,
}

impl Exec<'_> {
    /// Becomes the program. Comes back only with the reason why not.
    pub(super) fn run(&self) -> StepError {
        let name = self.program;
        if name.contains('/') {
            return match CString::new(name) {
                Ok(path) => self.explain(&path, sys::execve(&path, &self.argv, &self.env)),
                Err(_) => StepError::refused("exec", "exec: the program's name contains a NUL byte"),
            };
        }
        let mut denied = None;
        // An empty element would be the working directory, which the pod's image or user may fill: not searched.
        for dir in self.path.as_deref().unwrap_or(DEFAULT_PATH).split(|b| *b == b':').filter(|dir| !dir.is_empty()) {
            let Ok(candidate) = CString::new([dir, b"/", name.as_bytes()].concat()) else { break };
            match sys::execve(&candidate, &self.argv, &self.env) {
                // The file is there, so what is missing is what it asks for.
                Errno::NOENT if exists(&candidate) => return self.explain(&candidate, Errno::NOENT),
                Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => {}
                // The search goes on, as a shell's does, past a directory or a file that may not be executed.
                errno @ Errno::ACCESS => denied = denied.or(Some((candidate, errno))),
                errno => return self.explain(&candidate, errno),
            }
        }
        match denied {
            Some((candidate, errno)) if !is_dir(&candidate) => self.explain(&candidate, errno),
            _ => StepError {
                step: "exec",
                errno: Some(Errno::NOENT),
                message: format!("exec: {name:?}: executable file not found in $PATH"),
                exit_code: 127,
            },
        }
    }

    fn explain(&self, path: &CStr, errno: Errno) -> StepError {
        let reason = match errno {
            Errno::NOENT => missing_interpreter(path),
            Errno::NOEXEC => wrong_format(path),
            Errno::ACCESS if is_dir(path) => Some(describe(Errno::ISDIR)),
            Errno::TOOBIG => Some(self.too_big()),
            _ => None,
        };
        let reason = reason.unwrap_or_else(|| describe(errno));
        let exit_code = match errno {
            Errno::NOENT | Errno::NOTDIR => 127,
            Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::TXTBSY | Errno::LIBBAD | Errno::LOOP => 126,
            _ => 128,
        };
        let message = format!("exec {:?}: {reason}", path.to_string_lossy());
        StepError { step: "exec", errno: Some(errno), message, exit_code }
    }

    fn too_big(&self) -> String {
        let strings = || self.argv.iter().chain(&self.env).map(|s| s.as_bytes_with_nul().len());
        let longest = strings().max().unwrap_or_default();
        if longest > STRING_LIMIT {
            return format!(
                "argument list too long: one argument or environment variable takes {longest} bytes, the limit is {STRING_LIMIT}"
            );
        }
        let taken: usize = strings().map(|length| length + size_of::<usize>()).sum();
        // A quarter of the stack, between 32 pages and 6 MiB (execve(2), since 4.13).
        let quarter = getrlimit(Resource::Stack).current.map_or(u64::MAX, |stack| stack / 4);
        let limit = quarter.clamp(128 * 1024, 6 * 1024 * 1024);
        format!("argument list too long: the environment and arguments take {taken} bytes, the limit is {limit}")
    }
}

fn os_path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

fn exists(path: &CStr) -> bool {
    os_path(path).exists()
}

fn is_dir(path: &CStr) -> bool {
    os_path(path).is_dir()
}

/// The beginning of the program: enough for a `#!` line or an ELF file's headers.
fn head(path: &CStr) -> Option<Vec<u8>> {
    let mut head = vec![0; 4096];
    let file = std::fs::File::open(os_path(path)).ok().filter(|f| f.metadata().is_ok_and(|m| m.is_file()))?;
    let read = rustix::io::pread(file, &mut head, 0).ok()?;
    head.truncate(read);
    Some(head)
}

/// What execve(2) gave ENOENT for, where the file itself is there.
fn missing_interpreter(path: &CStr) -> Option<String> {
    let head = head(path)?;
    let interpreter = if head.starts_with(b"#!") { script_interpreter(&head) } else { elf_interpreter(&head) }?;
    let missing = !Path::new(OsStr::from_bytes(interpreter)).exists();
    let shown = String::from_utf8_lossy(interpreter);
    missing.then(|| format!("no such file or directory (its interpreter {shown:?} is missing)"))
}

/// What execve(2) gave ENOEXEC for, where that can be told.
fn wrong_format(path: &CStr) -> Option<String> {
    let head = head(path)?;
    let why = if head.is_empty() {
        "the file is empty"
    } else if head.starts_with(b"\x7fELF") {
        "it is built for another architecture or damaged"
    } else if head.starts_with(b"#!") {
        return None;
    } else {
        "it is neither an ELF program nor a script that begins with #!"
    };
    Some(format!("{} ({why})", describe(Errno::NOEXEC)))
}

fn script_interpreter(head: &[u8]) -> Option<&[u8]> {
    let line = head[2..].split(|b| *b == b'\n').next()?.trim_ascii_start();
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    Some(&line[..end]).filter(|name| !name.is_empty())
}

/// `PT_INTERP` of a little-endian 64-bit file; others are only described less well.
fn elf_interpreter(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |sum, b| sum << 8 | u64::from(*b)))
    };
    let position = |at, size| usize::try_from(number(at, size)?).ok();
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, entry, count) = (position(32, 8)?, position(54, 2)?, position(56, 2)?);
    for index in 0..count {
        let at = table.checked_add(index.checked_mul(entry)?)?;
        if number(at, 4)? == PT_INTERP {
            let start = position(at.checked_add(8)?, 8)?;
            let end = start.checked_add(position(at.checked_add(32)?, 8)?)?;
            return head.get(start..end)?.split(|b| *b == 0).next();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters() {
        assert_eq!(script_interpreter(b"#!/bin/sh -e\necho"), Some(&b"/bin/sh"[..]));
        assert_eq!(script_interpreter(b"#! \t/bin/sh"), Some(&b"/bin/sh"[..]));
        assert_eq!(script_interpreter(b"#!\n"), None);
        assert_eq!(script_interpreter(b"#!"), None);
        let own = std::fs::read("/bin/sh").unwrap();
        let loader = String::from_utf8(elf_interpreter(&own[..4096]).unwrap().to_vec()).unwrap();
        assert!(Path::new(&loader).exists(), "{loader}");
    }

    #[test]
    fn a_damaged_header_is_never_followed_out_of_bounds() {
        let own = std::fs::read("/bin/sh").unwrap();
        for cut in 0..600 {
            elf_interpreter(&own[..cut]);
        }
        for at in 5..400 {
            let mut broken = own[..4096].to_vec();
            broken[at..at + 8].fill(0xff);
            elf_interpreter(&broken);
        }
    }
}
