//! Manifests as `run`, `rm` and `plan` use them: read and checked as a whole before anything happens, and written as one
//! file per `systemk run`.
//!
//! One file and not one per pod: what comes together is seen together (a pod never before its ConfigMap), and an object
//! that two pods share has one home. `rm` takes a pod's document out of it; the file goes with its last pod.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use plan::fields::downward;
use plan::manifest::Manifest;
use plan::unit::name::hex_sha256;
use serde_json::{Value, json};

use crate::files::read_bounded;

/// As much as a manifest directory takes.
const LARGEST: u64 = 3 * 1024 * 1024;

/// A manifest that is all right.
#[derive(Clone)]
pub(super) struct Checked {
    pub(super) manifest: Manifest,
    documents: Vec<Value>,
}

/// The documents hold what the manifest's own `Debug` does not show.
impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.manifest.fmt(f)
    }
}

/// Why a manifest cannot be used: lines for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problems(pub(super) Vec<String>);

/// Namespace and name of a pod.
pub(super) type PodName = (String, String);

/// Reads `file`, or standard input for `-`.
///
/// # Errors
/// The file cannot be read; the inner error is what is wrong in it.
pub(super) fn read(file: &str, node_name: &str) -> anyhow::Result<Result<Checked, Problems>> {
    let (bytes, shown) = if file == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().take(LARGEST + 1).read_to_end(&mut bytes).context("read standard input")?;
        (bytes, "standard input")
    } else {
        (read_bounded(Path::new(file), LARGEST)?, file)
    };
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(Err(Problems(vec![format!("{shown}: it is not UTF-8")])));
    };
    Ok(check(&text, shown, node_name))
}

fn check(text: &str, shown: &str, node_name: &str) -> Result<Checked, Problems> {
    let documents = crate::manifests::documents(text).map_err(|error| Problems(vec![format!("{shown}: {error}")]))?;
    let manifest = plan::manifest::parse(&documents, node_name)
        .map_err(|refusals| Problems(refusals.iter().map(|refusal| format!("{shown}: {refusal}")).collect()))?;
    if manifest.pods.is_empty() {
        return Err(Problems(vec![format!("{shown}: there is no Pod in it")]));
    }
    let mut names: Vec<PodName> = manifest.pods.iter().map(pod_name).collect();
    names.sort();
    let twice = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]);
    let problems: Vec<String> =
        twice.map(|(namespace, name)| format!("{shown}: the Pod {namespace}/{name} is in it twice")).collect();
    if problems.is_empty() { Ok(Checked { manifest, documents: flat(documents) }) } else { Err(Problems(problems)) }
}

/// Namespace and name.
pub(super) fn pod_name(pod: &k8s_openapi::api::core::v1::Pod) -> PodName {
    (downward::namespace(pod).to_owned(), pod.metadata.name.clone().unwrap_or_default())
}

/// Lists are taken apart, and their items say what they are.
fn flat(documents: Vec<Value>) -> Vec<Value> {
    let mut flat = Vec::new();
    for mut document in documents {
        let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        match (kind.strip_suffix("List"), document.get_mut("items").map(Value::take)) {
            (Some(item_kind), Some(Value::Array(items))) => flat.extend(items.into_iter().map(|mut item| {
                if let Some(fields) = item.as_object_mut().filter(|fields| !fields.contains_key("kind")) {
                    fields.insert("kind".to_owned(), item_kind.into());
                }
                item
            })),
            _ if document.is_null() => {}
            _ => flat.push(document),
        }
    }
    flat
}

impl Checked {
    /// What the agent reads.
    pub(super) fn text(&self) -> String {
        text(&self.documents)
    }

    /// A file name for it that says whose it is and that another manifest's does not have.
    pub(super) fn file_name(&self) -> String {
        let names: Vec<String> =
            self.manifest.pods.iter().map(pod_name).map(|(namespace, name)| format!("{namespace}_{name}")).collect();
        let first = names.first().cloned().unwrap_or_default();
        // Neither a namespace nor a name can hold an underscore.
        match names.len() {
            1 if first.len() <= 200 => format!("{first}.json"),
            more => {
                let head: String = first.chars().take(150).collect();
                format!("{head}_{more}_{}.json", &hex_sha256(&names.join("/"))[..8])
            }
        }
    }
}

fn text(documents: &[Value]) -> String {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": documents});
    format!("{list:#}\n")
}

/// The manifest does not hold the pod (any more).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotInIt(String);

/// The text of a file of `run` without one pod; None if no other pod is in it.
///
/// # Errors
/// It cannot be read, or the pod is not in it.
pub(super) fn without(file: &Path, pod: &PodName) -> anyhow::Result<Option<String>> {
    let bytes = read_bounded(file, LARGEST)?;
    let text_of = String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", file.display()))?;
    let documents = crate::manifests::documents(&text_of).map_err(anyhow::Error::msg)?;
    let mut documents = flat(documents);
    let before = documents.len();
    documents.retain(|document| !is_pod(document, Some(pod)));
    if documents.len() == before {
        let text = format!("{} does not hold the pod {}/{} any more", file.display(), pod.0, pod.1);
        return Err(NotInIt(text).into());
    }
    let others = documents.iter().any(|document| is_pod(document, None));
    Ok(others.then(|| text(&documents)))
}

fn is_pod(document: &Value, named: Option<&PodName>) -> bool {
    let field = |name: &str| document.get("metadata")?.get(name)?.as_str().filter(|text| !text.is_empty());
    document.get("kind").and_then(Value::as_str) == Some("Pod")
        && named.is_none_or(|(namespace, name)| {
            field("name") == Some(name) && field("namespace").unwrap_or(downward::DEFAULT_NAMESPACE) == namespace
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "
apiVersion: v1
kind: PodList
items:
- {apiVersion: v1, metadata: {name: a}, spec: {containers: [{name: c, image: /bin/true}]}}
- {apiVersion: v1, metadata: {name: b, namespace: x}, spec: {containers: [{name: c, image: /bin/true}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: m}
";

    fn problems(text: &str) -> Vec<String> {
        check(text, "f", "n").unwrap_err().0
    }

    #[test]
    fn what_is_written_is_the_same_manifest() {
        let checked = check(TWO, "f", "n").unwrap();
        let again = check(&checked.text(), "f", "n").unwrap();
        assert_eq!(checked.manifest, again.manifest);
        assert!(checked.file_name().starts_with("default_a_2_"), "{}", checked.file_name());
    }

    #[test]
    fn a_pod_is_taken_out_and_the_last_takes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f.json");
        std::fs::write(&file, check(TWO, "f", "n").unwrap().text()).unwrap();
        let a = ("default".to_owned(), "a".to_owned());
        let b = ("x".to_owned(), "b".to_owned());
        let rest = without(&file, &a).unwrap().unwrap();
        let rest_checked = check(&rest, "f", "n").unwrap();
        assert_eq!(rest_checked.manifest.pods.len(), 1);
        assert_eq!(rest_checked.manifest.config_maps.len(), 1);
        std::fs::write(&file, rest).unwrap();
        assert!(without(&file, &a).is_err());
        assert_eq!(without(&file, &b).unwrap(), None);
    }

    #[test]
    fn every_problem_is_told() {
        assert_eq!(problems(""), ["f: there is no Pod in it"]);
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: /x}]}}";
        assert_eq!(problems(&format!("{pod}\n---\n{pod}\n")), ["f: the Pod default/a is in it twice"]);
        let bad = problems("{apiVersion: v1, kind: Pod, metadata: {name: A_}, spec: {containers: [{image: /x}]}}");
        assert!(bad.len() >= 2, "{bad:?}");
        assert!(bad.iter().all(|line| line.starts_with("f: Pod default/A_ ")), "{bad:?}");
    }

    #[test]
    fn long_names_fit() {
        let name = "n".repeat(253);
        let pod = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: /x}}]}}}}"
        );
        assert!(check(&pod, "f", "n").unwrap().file_name().len() < 200);
    }
}
