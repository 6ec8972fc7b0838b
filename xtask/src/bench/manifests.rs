//! The pods that are measured: a shell that says when it started, alone or with three volumes.

/// A pod of the machine's own shell.
pub(super) fn native(name: &str, script: &str) -> String {
    pod(name, "/bin/bash", "", script)
}

/// The same pod from an image, for a runtime of containers.
pub(super) fn image(name: &str, image: &str, script: &str) -> String {
    pod(name, image, "    imagePullPolicy: Never\n", script)
}

fn pod(name: &str, image: &str, more: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  hostNetwork: true\n  containers:\n  \
         - name: main\n    image: {image}\n{more}    command: [/bin/bash, -c, \"{script}\"]\n"
    )
}

/// The ConfigMap and the Secret that [`with_volumes`] uses.
pub(super) const OBJECTS: [&str; 2] = [
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a.conf: one, b.conf: two}\n",
    "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {key: secret}\n",
];

/// A pod with a ConfigMap, a Secret and an emptyDir.
pub(super) fn with_volumes(name: &str, script: &str) -> String {
    volumes(native(name, script))
}

/// The same pod from an image.
pub(super) fn image_with_volumes(name: &str, from: &str, script: &str) -> String {
    volumes(image(name, from, script))
}

/// podman 4.3 crashes where `optional` is not said.
fn volumes(pod: String) -> String {
    pod + "    volumeMounts:\n    - {name: settings, mountPath: /data/settings}\n    - {name: keys, mountPath: /data/keys}\n    \
           - {name: scratch, mountPath: /data/scratch}\n  volumes:\n  - {name: settings, configMap: {name: settings}}\n  \
           - {name: keys, secret: {secretName: keys, optional: false}}\n  - {name: scratch, emptyDir: {}}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indentation_is_as_yaml_wants_it() {
        let text = with_volumes("p", "true");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"  - name: main") && lines.contains(&"    image: /bin/bash"), "{text}");
        assert!(lines.contains(&"    - {name: keys, mountPath: /data/keys}"), "{text}");
        assert!(lines.contains(&"  - {name: scratch, emptyDir: {}}"), "{text}");
    }
}
