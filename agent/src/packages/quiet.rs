//! No service starts because its package was installed.
//!
//! Debian's `invoke-rc.d` and `deb-systemd-invoke` ask `/usr/sbin/policy-rc.d` whether a maintainer script may start
//! something, if that file is executable; exit status 101 means no. It is put there for the package manager alone: the
//! installation runs in its own mount namespace, in which a script on a private tmpfs is bound over that path. Other
//! maintainer scripts on the host (an administrator's `dpkg -i` after ours) never see it, and it vanishes with the last
//! process of the namespace, however that ends.
//!
//! A bind needs a target, and most hosts have no such file. Ways that were rejected: an overlay of /usr/sbin (dpkg must
//! write the real one), binding over `invoke-rc.d` itself (dpkg could then not replace it when init-system-helpers is
//! upgraded: rename over a mount point is EBUSY), `POLICYRCD=` (needs the package policyrcd-script-zg2, which the Go
//! systemk installed). So where the file is missing it is made as a [`PLACEHOLDER`]: *not executable*, which both programs
//! treat exactly as no file. It is removed after the installation; should a crash leave it, it has no effect, and
//! [`remove_placeholder`] takes it away at the next start.
//!
//! The namespace is a slave, not private: what the host unmounts meanwhile goes away here too, so an installation keeps
//! no volume busy. The script lives on a tmpfs of its own because /run and /var may be `noexec`.
//!
//! RPM distributions and Arch start nothing at installation; their presets only enable, which is undone like Debian's.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use plan::image::Manager;

use super::PackageError;

const POLICY: &str = "/usr/sbin/policy-rc.d";
const PLACEHOLDER: &str =
    "# Made by systemk for the time of a package installation. It is not executable and has no effect.\n";

/// `$1` is an empty directory for the tmpfs, the rest the command. The text is fixed; nothing of an image gets into it.
const SCRIPT: &str = r#"set -e
directory=$1; shift
mount -t tmpfs -o mode=0700,size=64k,nosuid,nodev,exec systemk-policy "$directory"
printf '#!/bin/sh\nexit 101\n' > "$directory/policy-rc.d"
chmod 0755 "$directory/policy-rc.d"
mount --bind "$directory/policy-rc.d" /usr/sbin/policy-rc.d
exec "$@""#;

/// `command` in a mount namespace where policy-rc.d forbids everything; `directory` is one of ours, made when missing.
pub(super) fn quietly(manager: Manager, directory: &Path, command: Vec<String>) -> Result<Vec<String>, PackageError> {
    if manager != Manager::Apt {
        return Ok(command);
    }
    fs::create_dir_all(directory).map_err(PackageError::io("create", directory))?;
    make_placeholder(Path::new(POLICY)).map_err(PackageError::io("create", POLICY))?;
    let wrapper = ["unshare", "--mount", "--propagation", "slave", "--", "/bin/sh", "-c", SCRIPT, "systemk-install"];
    let mut argv: Vec<String> = wrapper.iter().map(|part| (*part).to_owned()).collect();
    argv.push(directory.to_string_lossy().into_owned());
    argv.extend(command);
    Ok(argv)
}

fn make_placeholder(path: &Path) -> std::io::Result<()> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Ok(mut file) => file.write_all(PLACEHOLDER.as_bytes()),
        // Somebody's own policy, or a placeholder that was left.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the placeholder if what is there is one (or the empty beginning of one, which is not executable either).
pub(super) fn remove_placeholder(manager: Manager) {
    if manager == Manager::Apt
        && let Err(error) = remove_placeholder_at(Path::new(POLICY))
    {
        tracing::warn!(%error, path = POLICY, "cannot remove the placeholder, which has no effect");
    }
}

fn remove_placeholder_at(path: &Path) -> std::io::Result<()> {
    match fs::read(path) {
        Ok(content) if content == PLACEHOLDER.as_bytes() => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_placeholder_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("policy-rc.d");
        make_placeholder(&path).expect("made");
        assert_eq!(
            fs::metadata(&path).expect("it is there").permissions().mode() & 0o111,
            0,
            "it must not be executable"
        );
        make_placeholder(&path).expect("it may be there already");
        remove_placeholder_at(&path).expect("removed");
        assert!(!path.exists());
        fs::write(&path, "#!/bin/sh\nexit 104\n").expect("the administrator's own");
        make_placeholder(&path).expect("left alone");
        remove_placeholder_at(&path).expect("left alone");
        assert!(path.exists());
    }
}
