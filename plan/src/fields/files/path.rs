//! File names inside a volume: what the kubelet's atomic writer accepts.

/// Longest path, as upstream's `maxPathLength`.
const MAX_PATH: usize = 4096;
/// Longest component, as upstream's `maxFileNameLength`.
const MAX_NAME: usize = 255;

/// `path` without empty and `.` components, or why it cannot be one. As upstream only the first component may not start
/// with `..`: those names are the atomic writer's own (`..data`).
pub(super) fn clean(path: &str) -> Result<String, &'static str> {
    if path.is_empty() {
        return Err("must not be empty");
    }
    if path.starts_with('/') {
        return Err("must be a relative path");
    }
    if path.contains('\0') {
        return Err("must not hold a NUL byte");
    }
    if path.len() > MAX_PATH {
        return Err("must not be longer than 4096 bytes");
    }
    let components: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    match components.first() {
        None => return Err("must name a file"),
        Some(first) if first.starts_with("..") => return Err("must not start with '..'"),
        Some(_) => {}
    }
    if components.contains(&"..") {
        return Err("must not contain '..'");
    }
    if components.iter().any(|name| name.len() > MAX_NAME) {
        return Err("must not have a component longer than 255 bytes");
    }
    Ok(components.join("/"))
}
