//! `systemk plan`: the very units and Launches that the agent would write, with a note for each field or vendor directive
//! that is not simply obeyed. Reads the machine and changes nothing.

use std::collections::BTreeMap;
use std::process::ExitCode;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use plan::image::{ImageRef, PackageRef, Unqualified};
use plan::inputs::{Gathered, ImageFacts, ImageState, NodeFacts, PackageFacts};
use plan::note::Refusal;
use plan::pod_plan::PodPlan;

use super::manifest_file::{self, Checked, pod_name};
use super::output::{Style, print, print_data, tell};
use crate::config::{Config, Invocation, PlanArguments, Surroundings, UnqualifiedImages};
use crate::facts::node_facts;
use crate::packages::Packages;
use crate::reconcile::gather;
use crate::systemd::bus::Bus;
use crate::systemd::options::BusOptions;

mod data;
mod text;

/// The oldest systemd that is supported.
const OLDEST: u32 = 252;

/// One pod's plan, or every reason why there is none.
pub(super) struct Planned {
    pub(super) pod: Pod,
    pub(super) images: BTreeMap<String, Image>,
    pub(super) plan: Result<PodPlan, Vec<Refusal>>,
}

/// What is known of a container's image without fetching it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Image {
    pub(super) state: ImageState,
    /// The version of the package that is installed and will not do.
    pub(super) other_version: Option<String>,
}

impl From<ImageState> for Image {
    fn from(state: ImageState) -> Self {
        Self { state, other_version: None }
    }
}

pub(super) fn main(arguments: &PlanArguments) -> anyhow::Result<ExitCode> {
    let config = config(arguments)?;
    let checked = match manifest_file::read(&arguments.file, &config.node.name)? {
        Ok(checked) => checked,
        Err(problems) => {
            for line in &problems.0 {
                tell(&format!("{} {line}", Style::of_stderr().error("error:")));
            }
            return Ok(ExitCode::from(2));
        }
    };
    for warning in &checked.manifest.warnings {
        tell(&format!("{} {warning}", Style::of_stderr().warning("warning:")));
    }
    let (facts, planned) = crate::app::runtime()?.block_on(plan_all(&config, checked, arguments.show_secrets))?;
    let refused = planned.iter().any(|pod| pod.plan.is_err());
    match arguments.output {
        Some(format) => print_data(format, &data::data(&planned, &facts))?,
        None => print(&text::text(&planned, &facts, Style::of_stdout()))?,
    };
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn config(arguments: &PlanArguments) -> anyhow::Result<Config> {
    let read = |more: &[&str]| {
        let mut all = vec!["systemk", "agent"];
        all.extend(arguments.config.iter().flat_map(|file| ["--config", file]));
        all.extend(more);
        match crate::config::read(all, &Surroundings::of_process()) {
            Ok(Invocation::Agent(config)) => Ok(*config),
            Ok(Invocation::Command(_)) => Err(anyhow::anyhow!("the agent has no configuration")),
            Err(refused) => Err(anyhow::anyhow!("{}", refused.problems())),
        }
    };
    // A machine without a network can still be planned for.
    read(&[]).or_else(|error| read(&["--node-ip", "127.0.0.1"]).map_err(|_| error))
}

async fn plan_all(config: &Config, checked: Checked, show_secrets: bool) -> anyhow::Result<(NodeFacts, Vec<Planned>)> {
    let version = systemd_version().await;
    if version.is_none() {
        tell(&format!(
            "systemk: no systemd was found on this machine: planning for the oldest that is supported, {OLDEST}"
        ));
    }
    let facts = node_facts(config, version.unwrap_or(OLDEST))?;
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let packages = Packages::detect(&release, config.directories.state.join("packages"));
    let mut manifest = checked.manifest;
    if !show_secrets {
        // Before the plan is made, so that no way that a value can take shows it.
        manifest.secrets.iter_mut().for_each(hide);
    }
    let mut planned = Vec::new();
    for pod in &manifest.pods {
        let images = images(pod, config, packages.as_ref()).await;
        let states = images.iter().map(|(name, image)| (name.clone(), image.state.clone())).collect();
        let needs = plan::pod::needs(pod, &states);
        let (namespace, _) = pod_name(pod);
        let here = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            (meta.namespace.as_deref() == Some(namespace.as_str())).then(|| meta.name.clone()).flatten()
        };
        let mut gathered = Gathered {
            config_maps: manifest.config_maps.iter().filter_map(|m| Some((here(&m.metadata)?, m.clone()))).collect(),
            secrets: manifest.secrets.iter().filter_map(|s| Some((here(&s.metadata)?, s.clone()))).collect(),
            images: states,
            ..Gathered::default()
        };
        gather::users(&needs, &mut gathered).await;
        gathered.host_paths = needs.host_paths.iter().filter_map(|path| gather::host_path(path)).collect();
        let plan = plan::pod::plan(pod, &gathered, &facts, &BTreeMap::new());
        planned.push(Planned { pod: pod.clone(), images, plan });
    }
    Ok((facts, planned))
}

fn hide(secret: &mut Secret) {
    for value in secret.data.iter_mut().flat_map(|data| data.values_mut()) {
        *value = ByteString(b"<secret>".to_vec());
    }
}

/// The running systemd's, else that of the installed one.
async fn systemd_version() -> Option<u32> {
    if std::path::Path::new("/run/systemd/system").is_dir() {
        let (bus, _events) = Bus::open(BusOptions::new(Vec::new()));
        if let Ok(version) = bus.systemd_version().await {
            return Some(version);
        }
    }
    let output = tokio::process::Command::new("systemctl").arg("--version").output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What is known of the images without fetching any.
async fn images(pod: &Pod, config: &Config, packages: Option<&Packages>) -> BTreeMap<String, Image> {
    let unqualified = match config.unqualified_images {
        UnqualifiedImages::Package => Unqualified::Package,
        UnqualifiedImages::Oci => Unqualified::Oci,
    };
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let mut states = BTreeMap::new();
    for container in init.chain(spec.into_iter().flat_map(|spec| &spec.containers)) {
        let image = container.image.as_deref().unwrap_or_default();
        let state: Image = match ImageRef::parse(image, unqualified) {
            Err(invalid) => failed("InvalidImageName", invalid.to_string()),
            Ok(ImageRef::Path(path)) => ImageState::Present(ImageFacts::HostBinary { path }).into(),
            Ok(ImageRef::Oci(reference)) => {
                let text = "is an OCI image: this version runs packages, package files and host binaries";
                failed("ErrImagePull", format!("{reference} {text}"))
            }
            Ok(ImageRef::Url(_)) => ImageState::Needed.into(),
            Ok(ImageRef::Package(package)) => match packages {
                None => failed("ErrImagePull", "this distribution's package manager is not supported".to_owned()),
                Some(packages) => match packages.facts(&package.name).await {
                    Ok(installed) => of_package(&package, installed),
                    Err(error) => failed("ErrImagePull", crate::causes::causes(&error)),
                },
            },
        };
        states.insert(container.name.clone(), state);
    }
    states
}

fn of_package(wanted: &PackageRef, installed: Option<PackageFacts>) -> Image {
    match installed {
        Some(facts) if wanted.version.matches(&facts.version) => ImageState::Present(ImageFacts::Package(facts)).into(),
        // Another version may ship another unit.
        Some(facts) => Image { state: ImageState::Needed, other_version: Some(facts.version) },
        None => ImageState::Needed.into(),
    }
}

fn failed(reason: &str, message: String) -> Image {
    ImageState::Failed { reason: reason.to_owned(), message, retry_at_ms: None }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_than_the_wanted_is_not_planned_with() {
        let facts = PackageFacts { name: "x".into(), version: "1:2.0-1".into(), ..PackageFacts::default() };
        let image = |text: &str, facts: Option<&PackageFacts>| {
            let Ok(ImageRef::Package(wanted)) = ImageRef::parse(text, Unqualified::Package) else { panic!("{text}") };
            of_package(&wanted, facts.cloned())
        };
        let present = Image::from(ImageState::Present(ImageFacts::Package(facts.clone())));
        for will_do in ["x", "x:latest", "x:2.0", "x=1:2.0-1", "x=1:2*"] {
            assert_eq!(image(will_do, Some(&facts)), present, "{will_do}");
        }
        for other in ["x:2.1", "x=2.0-1", "x=1:3*"] {
            let needed = Image { state: ImageState::Needed, other_version: Some("1:2.0-1".into()) };
            assert_eq!(image(other, Some(&facts)), needed, "{other}");
        }
        assert_eq!(image("x:2.0", None), ImageState::Needed.into());
    }

    #[test]
    fn no_value_of_a_secret_is_left() {
        let data = [("a".to_owned(), ByteString(b"hunter2".to_vec())), ("b".to_owned(), ByteString(Vec::new()))];
        let mut secret = Secret { data: Some(data.into()), ..Secret::default() };
        hide(&mut secret);
        assert!(secret.data.unwrap().values().all(|value| value.0 == b"<secret>"));
    }
}
