use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::*;

fn pod(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: {image}}}]}}\n"
    )
}

fn images(snapshot: &Snapshot) -> Vec<String> {
    let image = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
    let mut images: Vec<String> = snapshot.pods.values().map(|(pod, _)| image(pod)).collect();
    images.sort();
    images
}

struct Source {
    events: mpsc::Receiver<SourceEvent>,
}

impl Source {
    fn start(directories: &[&Path]) -> Self {
        let (sender, events) = mpsc::channel(8);
        let directories = directories.iter().map(|path| path.to_path_buf()).collect();
        tokio::spawn(watch(ManifestConfig { directories, node_name: "node".into() }, sender));
        Self { events }
    }

    async fn next(&mut self) -> Snapshot {
        let event = tokio::time::timeout(Duration::from_secs(10), self.events.recv()).await;
        let SourceEvent::Objects(snapshot) = event.expect("a snapshot in time").expect("a source that runs");
        *snapshot
    }

    /// Waits for a snapshot that is as wanted.
    async fn until(&mut self, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        loop {
            let snapshot = self.next().await;
            if wanted(&snapshot) {
                return snapshot;
            }
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn files_come_change_break_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::start(&[dir.path()]);
    assert_eq!(source.next().await, Snapshot::default());
    let path = dir.path().join("web.yaml");
    fs::write(dir.path().join(".web.yaml.swp"), "x: [").unwrap();
    fs::write(dir.path().join("web.yaml~"), "x: [").unwrap();
    fs::write(&path, pod("web", "one")).unwrap();
    assert_eq!(images(&source.next().await), ["one"]);
    fs::write(&path, "apiVersion: v1\nkind: Pod\nmeta: [").unwrap();
    let broken = source.next().await;
    assert_eq!((images(&broken), broken.errors.len()), (vec!["one".to_owned()], 1));
    fs::write(dir.path().join("new"), pod("web", "two")).unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    let fixed = source.next().await;
    assert_eq!((images(&fixed), fixed.errors.len()), (vec!["two".to_owned()], 0));
    fs::write(dir.path().join("other.json"), r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"}}"#)
        .unwrap();
    assert_eq!(source.next().await.config_maps.len(), 1);
    fs::rename(&path, dir.path().join("away")).unwrap();
    assert_eq!(images(&source.next().await), Vec::<String>::new());
}

#[tokio::test(flavor = "current_thread")]
async fn odd_files_are_errors_and_block_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    symlink("loop.yaml", at("loop.yaml")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo.yaml"), rustix::fs::Mode::RWXU).unwrap();
    fs::create_dir(at("dir.yaml")).unwrap();
    fs::File::create(at("big.yaml")).unwrap().set_len(10 << 20).unwrap();
    fs::write(at("real"), pod("linked", "l")).unwrap();
    symlink("real", at("link.yaml")).unwrap();
    symlink("nothing", at("dangling.yaml")).unwrap();
    fs::write(at("a.yaml"), pod("same", "first")).unwrap();
    fs::write(at("b.yaml"), pod("same", "second")).unwrap();
    let mut source = Source::start(&[dir.path()]);
    let snapshot = source.next().await;
    assert_eq!(images(&snapshot), ["first", "l"]);
    let names: Vec<_> = snapshot.errors.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["b.yaml", "big.yaml", "dir.yaml", "fifo.yaml", "loop.yaml"]);
    let text = &snapshot.errors[0].1[0];
    assert!(text.contains("a.yaml") && text.contains("b.yaml"), "{text}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_directory_may_come_late_go_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("etc/systemk/manifests");
    let mut source = Source::start(&[&path]);
    assert_eq!(source.next().await, Snapshot::default());
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("web.yaml"), pod("web", "one")).unwrap();
    source.until(|snapshot| images(snapshot) == ["one"]).await;
    fs::rename(dir.path().join("etc"), dir.path().join("gone")).unwrap();
    source.until(|snapshot| snapshot.pods.is_empty()).await;
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("web.yaml"), pod("web", "two")).unwrap();
    source.until(|snapshot| images(snapshot) == ["two"]).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_mounted_config_map_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v");
    let volume = crate::files::AtomicVolume::new(&path);
    let file = |content| crate::files::VolumeFile { path: "web.yaml", content, mode: 0o644, uid: None };
    let (one, two) = (pod("web", "one"), pod("web", "two"));
    volume.write(&[file(one.as_bytes())], None).unwrap();
    let mut source = Source::start(&[&path]);
    assert_eq!(images(&source.next().await), ["one"]);
    volume.write(&[file(two.as_bytes())], None).unwrap();
    source.until(|snapshot| images(snapshot) == ["two"]).await;
}

#[tokio::test(flavor = "current_thread")]
async fn the_source_ends_with_its_receiver() {
    let dir = tempfile::tempdir().unwrap();
    let (sender, events) = mpsc::channel(1);
    let config = ManifestConfig { directories: vec![dir.path().to_owned()], node_name: "node".into() };
    let source = tokio::spawn(watch(config, sender));
    drop(events);
    tokio::time::timeout(Duration::from_secs(10), source).await.unwrap().unwrap().unwrap();
}

#[test]
fn yaml_is_strict_and_bounded() {
    assert_eq!(
        documents("a: yes\nb: y\nc: on\nd: true").unwrap()[0].to_string(),
        r#"{"a":"yes","b":"y","c":"on","d":true}"#
    );
    assert_eq!(documents("a: 0400\nb: 0o400\nc: '0400'\nd: 090\n").unwrap()[0]["a"], 256);
    assert_eq!(documents("").unwrap().iter().filter(|document| !document.is_null()).count(), 0);
    assert_eq!(documents("a: 1\n---\n---\nb: 2\n").unwrap().iter().filter(|document| !document.is_null()).count(), 2);
    let error = documents("a: 1\nb: 2\na: 3\n").unwrap_err();
    assert!(error.contains("line 3"), "{error}");
    assert!(documents("{\"a\":1,\"a\":2}").is_err());
    assert!(documents("a: [").is_err());
    assert!(documents(&"[".repeat(100_000)).is_err());
    assert!(documents(&" ".repeat(4 << 20)).is_err());
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let alias = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", ")));
    }
    assert!(documents(&bomb).is_err());
}
