//! An image's configuration: what it runs unless the pod says otherwise, and what its layers hold once unpacked.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::manifest::MAX_LAYERS;
use super::{Digest, Platform};

/// The longest configuration that is read, in bytes; some hold the history of hundreds of steps.
pub const MAX_CONFIG: usize = 8 << 20;

/// The parts that a node needs. Docker writes `null` for what is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// What it runs on; some tools leave it out.
    #[serde(flatten)]
    pub platform: Platform,
    /// What to run.
    #[serde(deserialize_with = "or_default")]
    pub config: Execution,
    /// What the layers are.
    pub rootfs: RootFs,
}

/// What a container of it runs unless the pod says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Execution {
    /// `USER`: a name or number, and maybe a group's after a colon. Empty: root.
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// What the pod's `command` replaces.
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    /// What the pod's `args` replace.
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    /// Paths that are to be volumes: on a node each is a directory of the container's own.
    #[serde(deserialize_with = "keys")]
    pub volumes: Vec<String>,
    /// Empty: `/`.
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    /// `SIGTERM`, `15`; empty: SIGTERM.
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: String,
    /// Anything.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

/// The layers by what their tars hash to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// `layers`; nothing else is known.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    /// Of the unpacked tars, the lowest first.
    #[serde(deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

/// Why a configuration is not usable; `ErrImagePull` shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Larger than [`MAX_CONFIG`].
    #[error("the image's configuration has {0} bytes, more than the {MAX_CONFIG} that are read")]
    TooLarge(usize),
    /// The parser's words.
    #[error("the image's configuration cannot be read: {0}")]
    Unreadable(String),
    /// Not `layers`.
    #[error("the image's root file system is of the type {0:?}; only \"layers\" is known")]
    Kind(String),
    /// They must agree one by one.
    #[error("the manifest has {layers} layers and the configuration {diff_ids}")]
    Layers {
        /// In the manifest.
        layers: usize,
        /// In the configuration.
        diff_ids: usize,
    },
    /// A NUL, which neither an argument nor a variable nor a path can hold.
    #[error("the image's {0} holds a NUL")]
    Nul(&'static str),
    /// It is for another machine.
    #[error("the image is for {image}; this machine is {machine}")]
    Platform {
        /// What it says.
        image: String,
        /// What is here.
        machine: Platform,
    },
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go's set of strings: an object whose values mean nothing.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

impl ImageConfig {
    /// Reads the configuration `bytes` of an image with so many `layers`, for a machine of that kind.
    ///
    /// # Errors
    /// [`ConfigError`]: it cannot be run here.
    pub fn parse(bytes: &[u8], layers: usize, machine: &Platform) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_CONFIG {
            return Err(ConfigError::TooLarge(bytes.len()));
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| ConfigError::Unreadable(error.to_string()))?;
        config.check(layers, machine)?;
        Ok(config)
    }

    fn check(&self, layers: usize, machine: &Platform) -> Result<(), ConfigError> {
        if !matches!(self.rootfs.kind.as_str(), "layers" | "") {
            return Err(ConfigError::Kind(self.rootfs.kind.chars().take(100).collect()));
        }
        let diff_ids = self.rootfs.diff_ids.len();
        if diff_ids != layers || diff_ids > MAX_LAYERS {
            return Err(ConfigError::Layers { layers, diff_ids });
        }
        if let Some(what) = self.config.with_nul() {
            return Err(ConfigError::Nul(what));
        }
        // Whoever does not say it means any; a variant alone is the list's affair.
        let says = |own: &str, its: &str| !its.is_empty() && own != its;
        if says(&machine.os, &self.platform.os) || says(&machine.architecture, &self.platform.architecture) {
            let image = self.platform.to_string().chars().take(100).flat_map(char::escape_debug).collect();
            return Err(ConfigError::Platform { image, machine: machine.clone() });
        }
        Ok(())
    }

    /// What each layer makes of those below it: `sha256` over the chain, by which unpacked layers are shared
    /// (image-spec, "Layer ChainID"). The lowest first.
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::with_capacity(self.rootfs.diff_ids.len());
        for diff_id in &self.rootfs.diff_ids {
            let next = match chain.last() {
                None => diff_id.clone(),
                Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            };
            chain.push(next);
        }
        chain
    }
}

impl Execution {
    fn with_nul(&self) -> Option<&'static str> {
        let all = |texts: &[String]| texts.iter().any(|text| text.contains('\0'));
        let one = |text: &str| text.contains('\0');
        let found = [
            (all(&self.env), "Env"),
            (all(&self.entrypoint), "Entrypoint"),
            (all(&self.cmd), "Cmd"),
            (all(&self.volumes), "Volumes"),
            (one(&self.working_dir), "WorkingDir"),
            (one(&self.user), "User"),
        ];
        found.into_iter().find(|(is, _)| *is).map(|(_, what)| what)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(config: &Value, layers: usize) -> Result<ImageConfig, ConfigError> {
        ImageConfig::parse(config.to_string().as_bytes(), layers, &Platform::of_machine("x86_64"))
    }

    fn config(diff_ids: &[Digest]) -> Value {
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    }

    #[test]
    fn all_that_it_says_is_read() {
        let mut said = config(&[Digest::of(b"1")]);
        said["config"] = json!({
            "User": "app:staff", "Env": ["PATH=/bin"], "Entrypoint": ["/init"], "Cmd": ["-x"],
            "Volumes": {"/data": {}, "/cache": {}}, "WorkingDir": "/srv", "StopSignal": "SIGQUIT",
            "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["CMD"]},
        });
        said["history"] = json!([{"created_by": "x", "empty_layer": true}]);
        let read = parse(&said, 1).unwrap();
        let run = &read.config;
        assert_eq!(
            (run.user.as_str(), run.working_dir.as_str(), run.stop_signal.as_str()),
            ("app:staff", "/srv", "SIGQUIT")
        );
        assert_eq!(
            (&run.entrypoint, &run.cmd, &run.env),
            (&vec!["/init".into()], &vec!["-x".into()], &vec!["PATH=/bin".into()])
        );
        assert_eq!(run.volumes, ["/cache", "/data"]);
        assert_eq!(read.platform.to_string(), "linux/amd64");
    }

    #[test]
    fn null_is_empty() {
        let mut said = config(&[]);
        said["config"] = json!({"User": null, "Env": null, "Entrypoint": null, "Cmd": null, "Volumes": null, "Labels": null,
            "WorkingDir": null, "StopSignal": null});
        assert_eq!(parse(&said, 0).unwrap().config, Execution::default());
        said["config"] = Value::Null;
        said["rootfs"]["diff_ids"] = Value::Null;
        assert_eq!(parse(&said, 0).unwrap().config, Execution::default());
    }

    #[test]
    fn what_cannot_run_here_is_told() {
        let said = |config: &Value, layers| parse(config, layers).unwrap_err().to_string();
        let one = config(&[Digest::of(b"1")]);
        assert_eq!(said(&one, 2), "the manifest has 2 layers and the configuration 1");
        let mut arm = one.clone();
        arm["architecture"] = json!("arm64");
        assert_eq!(said(&arm, 1), "the image is for linux/arm64; this machine is linux/amd64");
        let mut nul = one.clone();
        nul["config"] = json!({"Entrypoint": ["a\0b"]});
        assert_eq!(said(&nul, 1), "the image's Entrypoint holds a NUL");
        let mut odd = one.clone();
        odd["rootfs"]["type"] = json!("squashfs");
        assert!(said(&odd, 1).contains("\"squashfs\""));
        let mut silent = one;
        silent.as_object_mut().unwrap().retain(|key, _| key == "rootfs");
        assert!(parse(&silent, 1).is_ok());
        for text in ["", "[]", "{\"config\": 1}", "{\"rootfs\": {\"diff_ids\": [\"x\"]}}"] {
            assert!(ImageConfig::parse(text.as_bytes(), 0, &Platform::of_machine("x86_64")).is_err(), "{text}");
        }
    }

    /// The example of the image specification, with its letters as digests.
    #[test]
    fn chain_ids_are_hashes_of_the_chain() {
        let [a, b, c] = ["A", "B", "C"].map(|letter| Digest::of(letter.as_bytes()));
        let read = parse(&config(&[a.clone(), b.clone(), c.clone()]), 3).unwrap();
        let ab = Digest::of(format!("{a} {b}").as_bytes());
        let abc = Digest::of(format!("{ab} {c}").as_bytes());
        assert_eq!(read.chain_ids(), [a, ab, abc]);
    }
}
