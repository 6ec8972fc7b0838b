use super::*;

/// A machine of files.
fn gauge(files: &[(&str, &str)]) -> (tempfile::TempDir, Gauge) {
    let root = tempfile::tempdir().unwrap();
    for (file, content) in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let gauge = Gauge { root: root.path().to_owned(), state: root.path().to_owned() };
    (root, gauge)
}

const STATUS: &str = "Name:\tsystemd\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\nMems_allowed:\t1\n";
const MEMINFO: &str =
    "MemTotal:        8131932 kB\nMemFree: 1 kB\nMemAvailable:    4000000 kB\nSwapTotal:       1024 kB\n";

#[test]
fn a_machine_of_its_own() {
    let (_root, gauge) = gauge(&[
        ("etc/machine-id", "0123\n"),
        ("etc/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
        ("proc/sys/kernel/random/boot_id", "b-o-o-t\n"),
        ("proc/1/status", STATUS),
        ("proc/meminfo", MEMINFO),
        ("sys/devices/system/cpu/online", "0-1,3\n"),
        ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "32\n"),
        ("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n"),
        ("proc/sys/kernel/pid_max", "32768\n"),
        ("proc/sys/kernel/threads-max", "20000\n"),
        ("proc/loadavg", "0.20 0.18 0.12 1/800 11206\n"),
    ]);
    let machine = gauge.machine("252.39-1~deb12u1").unwrap();
    assert_eq!((machine.machine_id.as_str(), machine.system_uuid.as_str()), ("0123", "0123"));
    assert_eq!((machine.boot_id.as_str(), machine.os_image.as_str()), ("b-o-o-t", "Debian GNU/Linux 12 (bookworm)"));
    // 8 may be used, 3 are there.
    assert_eq!((machine.cpu_milli, machine.memory_bytes, machine.swap_bytes), (3000, 8_131_932 << 10, 1 << 20));
    assert_eq!(machine.huge_pages, BTreeMap::from([("1Gi".to_owned(), 0), ("2Mi".to_owned(), 64 << 20)]));
    assert!(machine.storage_bytes > 0 && machine.pods == 110);
    let left = gauge.available().unwrap();
    assert_eq!((left.memory_bytes, left.pids), (4_000_000 << 10, (19_200, 20_000)));
    assert!(left.storage_bytes > 0 && left.storage_bytes <= machine.storage_bytes);
}

#[test]
fn a_container_has_what_it_was_given() {
    let (_root, gauge) = gauge(&[
        ("sys/class/dmi/id/product_uuid", "UUID\n"),
        ("proc/1/status", "Cpus_allowed_list:\t1,3\n"),
        ("sys/devices/system/cpu/online", "0-3\n"),
        ("proc/meminfo", MEMINFO),
        ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/memory.current", "900000000\n"),
        ("sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 100000000\n"),
        ("sys/fs/cgroup/pids.max", "100\n"),
        ("sys/fs/cgroup/pids.current", "97\n"),
        ("proc/sys/kernel/pid_max", "32768\n"),
    ]);
    let machine = gauge.machine("257").unwrap();
    assert_eq!((machine.cpu_milli, machine.memory_bytes), (1500, 1 << 30));
    assert_eq!((machine.system_uuid.as_str(), machine.os_image.as_str()), ("UUID", "Linux"));
    let left = gauge.available().unwrap();
    assert_eq!((left.memory_bytes, left.pids), ((1 << 30) - 800_000_000, (3, 100)));
}

#[test]
fn a_quota_of_none_and_lists_of_processors() {
    assert_eq!(cpus::quota_milli("max 100000"), None);
    assert_eq!(cpus::quota_milli("50000 100000\n"), Some(500));
    assert_eq!(cpus::list("0-2,5\n").into_iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
    assert!(cpus::list("").is_empty());
    assert_eq!((page_size(64 << 10), page_size(16 << 20)), ("64Ki".to_owned(), "16Mi".to_owned()));
}

#[test]
fn this_machine() {
    let machine = Gauge::new(Path::new("/")).machine("252").unwrap();
    assert!(machine.cpu_milli >= 100 && machine.memory_bytes > 1 << 20 && !machine.boot_id.is_empty(), "{machine:?}");
    assert!(["amd64", "arm64"].contains(&machine.architecture.as_str()), "{machine:?}");
    let left = Gauge::new(Path::new("/")).available().unwrap();
    assert!(left.memory_bytes > 0 && left.pids.0 > 0 && left.pids.0 < left.pids.1, "{left:?}");
}
