//! Versioned state: one JSON file per fact, with a checksum. A file that cannot be used is put aside and never fatal.

use std::marker::PhantomData;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{During, FileError, read_bounded, write_atomic, write_volatile};

/// No state of ours comes near it.
const LARGEST: u64 = 16 * 1024 * 1024;
/// Further corrupt files replace the last one: a loop of crashes must not fill the disk.
const MOST_ASIDE: u32 = 8;

/// What can be kept in a state file.
pub(crate) trait State: Serialize + DeserializeOwned {
    /// Raised with every change that an older reader would misunderstand.
    const VERSION: u32;

    /// Reads the data of the version before; None if it cannot be used.
    fn upgrade(version: u32, data: &str) -> Option<Self> {
        let (_, _) = (version, data);
        None
    }
}

/// What was found.
#[derive(Debug, PartialEq)]
pub(crate) struct Loaded<T> {
    /// None: there was no file, or none that can be used.
    pub(crate) value: Option<T>,
    /// For the log: a file was put aside, and why.
    pub(crate) warning: Option<String>,
}

/// The file of one fact.
#[derive(Debug)]
pub(crate) struct StateFile<T> {
    path: PathBuf,
    durable: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T: State> StateFile<T> {
    /// A file that has to survive a power cut.
    pub(crate) fn durable(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), durable: true, kind: PhantomData }
    }

    /// A file below /run.
    pub(crate) fn volatile(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), durable: false, kind: PhantomData }
    }

    /// Where it is.
    #[cfg(test)]
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Replaces the content; 0600, for it may quote what pods say.
    pub(crate) fn save(&self, value: &T) -> Result<(), FileError> {
        let data = serde_json::to_string(value).map_err(std::io::Error::from).during("encode", &self.path)?;
        let text = format!("{{\"version\":{},\"sha256\":\"{}\",\"data\":{data}}}\n", T::VERSION, checksum(&data));
        let write = if self.durable { write_atomic } else { write_volatile };
        write(&self.path, text.as_bytes(), 0o600)
    }

    /// Reads it. An error is the kernel's (EIO, EACCES): the file may be good, so it is left alone.
    pub(crate) fn load(&self) -> Result<Loaded<T>, FileError> {
        let bytes = match read_bounded(&self.path, LARGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(Loaded { value: None, warning: None }),
            Err(error @ FileError::Io { .. }) => return Err(error),
            Err(error) => return self.put_aside(&error.to_string()),
        };
        match decode(&bytes) {
            Ok(value) => Ok(Loaded { value: Some(value), warning: None }),
            Err(reason) => self.put_aside(&reason),
        }
    }

    fn put_aside(&self, reason: &str) -> Result<Loaded<T>, FileError> {
        let mut aside = self.path.clone();
        for number in 1..=MOST_ASIDE {
            let mut name = self.path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".corrupt-{number}"));
            aside.set_file_name(name);
            if std::fs::symlink_metadata(&aside).is_err() {
                break;
            }
        }
        rustix::fs::rename(&self.path, &aside).during("put aside", &self.path)?;
        let warning = format!("{} cannot be used ({reason}); it is now {}", self.path.display(), aside.display());
        Ok(Loaded { value: None, warning: Some(warning) })
    }
}

fn checksum(data: &str) -> String {
    Sha256::digest(data.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads exactly what [`StateFile::save`] writes: the checksum is that of the data's text, so the text has to be cut out
/// of the file before it is parsed.
fn decode<T: State>(bytes: &[u8]) -> Result<T, String> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err("it is empty".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let parts = text.strip_prefix("{\"version\":").and_then(|rest| {
        let (version, rest) = rest.split_once(",\"sha256\":\"")?;
        let (sum, rest) = rest.split_once("\",\"data\":")?;
        Some((version.parse::<u32>().ok()?, sum, rest.trim_end().strip_suffix('}')?))
    });
    let Some((version, sum, data)) = parts else { return Err("it is cut short or not a state file".to_owned()) };
    if checksum(data) != sum {
        return Err("its checksum is wrong".to_owned());
    }
    if version == T::VERSION {
        return serde_json::from_str(data).map_err(|error| error.to_string());
    }
    let unknown = || format!("its version is {version}, this systemk reads {}", T::VERSION);
    T::upgrade(version, data).ok_or_else(unknown)
}
