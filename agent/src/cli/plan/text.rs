//! A plan for people: what is not as the manifest says first, then every file with its path as the heading.

use plan::inputs::{ImageState, NodeFacts};
use plan::note::NoteKind;
use plan::pod_plan::{ContainerPlan, ContainerRole, MakeKind, PodPlan, VolumeContent, VolumePlan};

use super::Planned;
use crate::cli::manifest_file::pod_name;
use crate::cli::output::Style;

pub(super) fn text(planned: &[Planned], facts: &NodeFacts, style: Style) -> String {
    let mut text = String::new();
    for (index, pod) in planned.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let (namespace, name) = pod_name(&pod.pod);
        text.push_str(&format!("{}\n", style.heading(&format!("Pod {namespace}/{name}"))));
        match &pod.plan {
            Ok(plan) => one(plan, pod, facts, style, &mut text),
            Err(refusals) => {
                text.push_str("it would be refused:\n");
                for refusal in refusals {
                    text.push_str(&format!("  {} {}\n", style.error("refused"), refusal));
                }
            }
        }
    }
    text
}

fn one(plan: &PodPlan, pod: &Planned, facts: &NodeFacts, style: Style, text: &mut String) {
    for note in &plan.notes {
        let kind = note.kind.to_string();
        let kind = match note.kind {
            NoteKind::Warned => style.warning(&kind),
            NoteKind::Ignored | NoteKind::Dropped | NoteKind::Rewritten | NoteKind::KeptUnknown => kind,
        };
        text.push_str(&format!("  {kind} {}: {}\n", note.path, note.text));
    }
    if let Some(blocked) = &plan.blocked {
        text.push_str(&format!("  {} {}\n", style.warning("waits"), blocked.message));
    }
    for volume in &plan.volumes {
        text.push_str(&format!("  volume {}: {}\n", volume.name, content(volume)));
    }
    let slice_text = plan.containers.iter().find_map(|c| Some(c.attempt.as_ref().ok()?.slice_text.as_str()));
    if let Some(slice_text) = slice_text {
        file(&format!("{}/{}", facts.unit_dir, plan.slice), slice_text, style, text);
    }
    for container in &plan.containers {
        container_text(container, pod, facts, style, text);
    }
}

fn file(path: &str, content: &str, style: Style, text: &mut String) {
    text.push_str(&format!("\n{}\n", style.heading(&format!("# {path}"))));
    text.push_str(content.trim_end());
    text.push('\n');
}

fn container_text(container: &ContainerPlan, pod: &Planned, facts: &NodeFacts, style: Style, text: &mut String) {
    let role = match container.role {
        ContainerRole::Init => "init container",
        ContainerRole::App => "container",
    };
    let attempt = match &container.attempt {
        Ok(attempt) => attempt,
        Err(blocked) => {
            let why = unknown(container, pod).unwrap_or_else(|| format!("{}: {}", blocked.reason, blocked.message));
            text.push_str(&format!("\n{}\n{why}\n", style.heading(&format!("# {role} {}", container.name))));
            return;
        }
    };
    file(&format!("{}/{}", facts.unit_dir, attempt.unit), &attempt.unit_text, style, text);
    let launch = serde_json::to_string_pretty(&attempt.launch).unwrap_or_default();
    file(&attempt.launch_path, &launch, style, text);
    if !attempt.make.is_empty() {
        text.push_str(&format!("\n{}\n", style.heading(&format!("# made for {role} {}", container.name))));
    }
    for make in &attempt.make {
        let kind = match &make.kind {
            MakeKind::Directory => "directory".to_owned(),
            MakeKind::File(content) => format!("file of {} bytes", content.len()),
            MakeKind::Symlink(target) => format!("-> {target}"),
        };
        text.push_str(&format!("{:04o} {} {kind}\n", make.mode, make.path));
    }
    for path in &attempt.host_paths {
        text.push_str(&format!("on the host: {path}\n"));
    }
}

/// Why nothing is known of a container's unit, where that is its image.
pub(super) fn unknown(container: &ContainerPlan, pod: &Planned) -> Option<String> {
    let all = plan::pod::containers(&pod.pod);
    let image = all.filter(|c| c.name == container.name).find_map(|c| c.image.as_deref()).unwrap_or_default();
    let known = pod.images.get(&container.name)?;
    match &known.state {
        ImageState::Present(_) => None,
        ImageState::Needed | ImageState::Pulling { .. } => {
            let other = known.other_version.as_ref().map(|version| format!(" (version {version} is)"));
            Some(format!(
                "The package {image} is not installed{}: its unit is not known until it is. 'systemk run' installs it.",
                other.unwrap_or_default()
            ))
        }
        ImageState::Failed { reason, message, .. } => Some(format!("{reason}: {message}")),
    }
}

fn content(volume: &VolumePlan) -> String {
    match &volume.content {
        VolumeContent::Empty { path, tmpfs_bytes: None, .. } => format!("an empty directory {path}"),
        VolumeContent::Empty { path, tmpfs_bytes: Some(bytes), .. } => {
            format!("{path}, in memory, {bytes} bytes at most")
        }
        VolumeContent::Files { path, .. } => format!("files below {path}"),
        VolumeContent::Host { path, create: None } => format!("the host's {path}"),
        VolumeContent::Host { path, create: Some(_) } => format!("the host's {path}, made if it is missing"),
    }
}
