use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use proptest::prelude::*;

use super::*;
use crate::fields::fixtures::{facts, pod};

/// A pod whose containers and init containers have these `resources`.
fn of(containers: &[&str], init: &[&str], rest: &str) -> Pod {
    let list = |names: &str, all: &[&str]| -> String {
        let entry = |(index, fields): (usize, &&str)| format!("{{name: {names}{index}, {fields}}}");
        all.iter().enumerate().map(entry).collect::<Vec<_>>().join(", ")
    };
    let (containers, init) = (list("c", containers), list("i", init));
    pod(&format!("spec: {{containers: [{containers}], initContainers: [{init}], {rest}}}"))
}

fn first(pod: &Pod) -> ContainerResources {
    container_resources(pod, &pod.spec.as_ref().unwrap().containers[0], "spec.containers[0]", &facts())
}

const NONE: &str = "image: x";

#[test]
fn classes() {
    const FULL: &str = "resources: {limits: {cpu: 1, memory: 1Gi}}";
    const EQUAL: &str = "resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1000m, memory: 1024Mi}}";
    const LESS: &str = "resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 500m}}";
    const CPU: &str = "resources: {limits: {cpu: 1}}";
    const DISK: &str = "resources: {requests: {ephemeral-storage: 1Gi}}";
    const ZERO: &str = "resources: {requests: {cpu: 0}, limits: {cpu: 0}}";
    for (containers, init, rest, expected) in [
        (vec![NONE], vec![], "", QosClass::BestEffort),
        (vec![DISK], vec![], "", QosClass::BestEffort),
        (vec![ZERO], vec![], "", QosClass::BestEffort),
        (vec![FULL, EQUAL], vec![], "", QosClass::Guaranteed),
        (vec![LESS], vec![], "", QosClass::Burstable),
        (vec![CPU], vec![], "", QosClass::Burstable),
        (vec![FULL, NONE], vec![], "", QosClass::Burstable),
        (vec![FULL], vec![NONE], "", QosClass::Burstable),
        (vec![FULL], vec![FULL], "", QosClass::Guaranteed),
        (vec![NONE], vec![CPU], "", QosClass::Burstable),
        (vec![NONE], vec![], "resources: {limits: {cpu: 1, memory: 1Gi}}", QosClass::Guaranteed),
        (vec![NONE], vec![], "resources: {limits: {cpu: 1, memory: 1Gi}}, overhead: {cpu: 1}", QosClass::Guaranteed),
        (vec![LESS], vec![], "resources: {limits: {cpu: 1, memory: 1Gi}}", QosClass::Burstable),
        (vec![FULL], vec![], "resources: {requests: {cpu: 2}}", QosClass::Burstable),
        (vec![FULL], vec![], "resources: {}", QosClass::Guaranteed),
    ] {
        assert_eq!(qos_class(&of(&containers, &init, rest)), expected, "{containers:?} {init:?} {rest}");
    }
    assert_eq!(qos_class(&Pod::default()).to_string(), "BestEffort");
}

#[test]
fn a_containers_settings() {
    for (fields, weight, quota, memory, swap) in [
        (NONE, 1, None, None, None),
        ("resources: {requests: {cpu: 100m}}", 4, None, None, None),
        ("resources: {requests: {cpu: 1}}", 39, None, None, None),
        ("resources: {requests: {cpu: 300}}", 10_000, None, None, None),
        ("resources: {limits: {cpu: 500m}}", 20, Some(500_000), None, None),
        ("resources: {limits: {cpu: 1m}}", 1, Some(10_000), None, None),
        ("resources: {limits: {cpu: 0, memory: 0}}", 1, None, None, None),
        ("resources: {limits: {memory: 64Mi}}", 1, None, Some(64 << 20), Some(0)),
    ] {
        let got = first(&of(&[fields], &[], ""));
        let CgroupLimits { cpu_weight, cpu_quota_us_per_s, memory_max, memory_swap_max, tasks_max } = got.limits;
        assert_eq!(
            (cpu_weight, cpu_quota_us_per_s, memory_max, memory_swap_max, tasks_max),
            (Some(weight), quota, memory, swap, None),
            "{fields}"
        );
        assert!(got.notes.is_empty() && got.refusals.is_empty(), "{fields}");
    }
    let of_pod = first(&of(&[NONE], &[], "resources: {limits: {cpu: 2, memory: 1Gi}}")).limits;
    assert_eq!((of_pod.cpu_quota_us_per_s, of_pod.memory_max), (Some(2_000_000), Some(1 << 30)));
}

#[test]
fn the_pods_slice() {
    const A: &str = "resources: {requests: {cpu: 200m, memory: 1Gi}, limits: {cpu: 1, memory: 2Gi}}";
    const BIG: &str = "resources: {requests: {cpu: 2, memory: 1Mi}, limits: {cpu: 3, memory: 1Gi}}";
    const SIDECAR: &str = "restartPolicy: Always, resources: {requests: {cpu: 100m}, limits: {cpu: 500m, memory: 1Gi}}";
    let limits = |pod: &Pod| {
        let CgroupLimits { cpu_weight, cpu_quota_us_per_s, memory_max, .. } = pod_resources(pod, &facts()).limits;
        (cpu_weight, cpu_quota_us_per_s, memory_max)
    };
    // 400 milli-cores are 409 shares.
    assert_eq!(limits(&of(&[A, A], &[], "")), (Some(16), Some(2_000_000), Some(4 << 30)));
    // The init container needs more cpu than both, the sidecar runs beside either.
    assert_eq!(limits(&of(&[A, A], &[SIDECAR, BIG], "")), (Some(82), Some(3_500_000), Some(5 << 30)));
    assert_eq!(limits(&of(&[A, A], &[BIG, SIDECAR], "")), (Some(79), Some(3_000_000), Some(5 << 30)));
    // Nothing is limited as a whole while one container is not.
    assert_eq!(limits(&of(&[A, NONE], &[], "")), (Some(8), None, None));
    assert_eq!(limits(&of(&[NONE], &[], "")), (Some(1), None, None));
    let own = "resources: {limits: {cpu: 1500m, memory: 3Gi}}, overhead: {memory: 1Gi}";
    assert_eq!(limits(&of(&[A, NONE], &[], own)), (Some(8), Some(1_500_000), Some(4 << 30)));
    assert_eq!(pod_resources(&of(&[A], &[], own), &facts()).limits.memory_swap_max, Some(0));
}

#[test]
fn oom_scores() {
    const HALF: &str = "resources: {requests: {memory: 4Gi}}";
    const ALL: &str = "resources: {requests: {memory: 80Gi}}";
    const CPU: &str = "resources: {requests: {cpu: 1}}";
    const FULL: &str = "resources: {limits: {cpu: 1, memory: 1Gi}}";
    for (containers, rest, expected) in [
        (vec![NONE], "", 1000),
        (vec![FULL], "", -997),
        (vec![HALF], "", 500),
        (vec![CPU], "", 999),
        (vec![ALL], "", 3),
        (vec![NONE], "priorityClassName: system-node-critical", -997),
        // 4 GiB for the pod, half of them for each of its two containers.
        (vec![NONE, NONE], "resources: {requests: {memory: 4Gi}}", 750),
    ] {
        assert_eq!(first(&of(&containers, &[], rest)).oom_score_adjust, expected, "{containers:?} {rest}");
    }
    let sidecar = of(&[HALF], &["restartPolicy: Always"], "");
    let container = &sidecar.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0];
    assert_eq!(container_resources(&sidecar, container, "spec.initContainers[0]", &facts()).oom_score_adjust, 500);
}

#[test]
fn what_cannot_be_obeyed_is_refused_at_its_path() {
    for (fields, expected) in [
        ("limits: {cpu: -1}", "limits[cpu]: -1 is negative"),
        ("limits: {memory: 10E}", "limits[memory]: 10E is more than any machine has"),
        ("limits: {cpu: '1e9'}", "limits[cpu]: 1e9 is more than any machine has"),
        (
            "limits: {cpu: abc}",
            "limits[cpu]: \"abc\" is not a quantity: expected a number and an optional suffix, such as 500m, 1.5 or 64Mi",
        ),
        ("limits: {hugepages-2Mi: 4Mi}", "limits[hugepages-2Mi]: huge pages are not supported"),
        (
            "limits: {nvidia.com/gpu: 1}",
            "limits[nvidia.com/gpu]: is not supported: systemk offers cpu, memory and ephemeral-storage",
        ),
        ("claims: [{name: x}]", "claims: resource claims are not supported: systemk has no device drivers"),
        ("limits: {memory: 1Gi}, requests: {memory: 2Gi}", "requests[memory]: 2Gi is more than the limit of 1Gi"),
    ] {
        let got = first(&of(&[&format!("resources: {{{fields}}}")], &[], "")).refusals;
        let shown: Vec<String> = got.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [format!("spec.containers[0].resources.{expected}")], "{fields}");
    }
    let got = pod_resources(
        &of(
            &[NONE],
            &[],
            "overhead: {memory: x}, resources: {limits: {ephemeral-storage: 1, cpu: -1, hugepages-1Gi: 1Gi}}",
        ),
        &facts(),
    );
    let paths: Vec<&str> = got.refusals.iter().map(|refusal| refusal.path.as_str()).collect();
    let expected = ["cpu", "ephemeral-storage", "hugepages-1Gi"].map(|name| format!("spec.resources.limits[{name}]"));
    assert_eq!(paths[..3], expected);
    assert_eq!(paths[3..], ["spec.overhead[memory]"]);
}

#[test]
fn what_is_not_enforced_is_said_once() {
    let fields = "resources: {limits: {cpu: 1, memory: 1.5, ephemeral-storage: 1Gi}, requests: {cpu: 1}}, \
                  resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]";
    let pod = of(&[fields], &[], "");
    let mut host = facts();
    host.controllers.clear();
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let got = container_resources(&pod, container, "c", &host);
    let shown: Vec<String> = got.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "c.resources.limits[ephemeral-storage]: is not enforced yet: nothing counts what the container writes to disk (warning)",
            "c.resources.limits[memory]: 1500m is a fraction of a byte and counts as 2 bytes (warning)",
            "c.resizePolicy: a running container is not resized yet (ignored)",
            "c.resources.limits[cpu]: the cpu limit is not enforced: this host's cgroup has no cpu controller (warning)",
            "c.resources.limits[memory]: the memory limit is not enforced: this host's cgroup has no memory controller (warning)",
        ]
    );
    assert_eq!(got.limits, CgroupLimits::default());
    // The slice repeats nothing of its containers', and nobody misses a weight that was not asked for.
    assert_eq!(pod_resources(&pod, &host).notes, []);
    assert_eq!(container_resources(&of(&[NONE], &[], ""), &Container::default(), "c", &host).notes, []);
}

proptest! {
    #[test]
    fn no_quantity_panics_and_settings_stay_in_systemds_range(
        name in prop::sample::select(vec!["cpu", "memory", "ephemeral-storage", "x/y"]),
        request in "\\PC*",
        limit in "-?[0-9.]{1,25}(m|k|E|Ki|Ei|e[0-9]{1,4})?",
        capacity in any::<i64>(),
    ) {
        let list = |text: String| Some([(name.to_owned(), ApiQuantity(text))].into());
        let resources =
            Some(ResourceRequirements { requests: list(request), limits: list(limit), ..Default::default() });
        let container = Container { resources: resources.clone(), ..Container::default() };
        let spec = PodSpec {
            containers: vec![container.clone(), container.clone()],
            init_containers: Some(vec![container.clone()]),
            resources,
            ..PodSpec::default()
        };
        let pod = Pod { spec: Some(spec), ..Pod::default() };
        let facts = NodeFacts { memory_bytes: capacity, ..facts() };
        let of_container = container_resources(&pod, &container, "c", &facts);
        prop_assert!((-1000..=1000).contains(&of_container.oom_score_adjust));
        for limits in [of_container.limits, pod_resources(&pod, &facts).limits] {
            prop_assert!(limits.cpu_weight.is_none_or(|weight| (1..=10_000).contains(&weight)));
            prop_assert!(limits.cpu_quota_us_per_s.is_none_or(|quota| quota >= 10_000));
            prop_assert!(limits.memory_max != Some(0));
        }
    }
}
