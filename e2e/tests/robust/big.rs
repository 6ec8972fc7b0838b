//! A great deal of everything: objects, variables, containers, volumes, lines.

use std::time::Duration;

use e2e::agent::{Node, SOON};
use e2e::eventually::wait_until;
use e2e::sandbox::Systemd;
use serde_json::{Value, json};

use super::support::{agent_log, kill_agent, pod, shell, starts, wait_nothing_left, wait_restarted, wait_sh};

/// A machine that builds at the same time is given this for a hundred containers.
const LONG: Duration = Duration::from_secs(150);

fn config_map(name: &str, data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
}

fn large_objects_and_environments(systemd: Systemd) {
    let node = Node::start(systemd, "big").unwrap();
    let many: Value =
        (0..5000).map(|n| (format!("key-{n}"), json!(format!("value {n}")))).collect::<serde_json::Map<_, _>>().into();
    // What the API server takes at most.
    let full = json!({"one": "x".repeat(1024 * 1024 - 3)});
    let mut main = shell("big", "main", "exec sleep infinity");
    // A cycle is text.
    let variables =
        (0..10_000).map(|n| json!({"name": format!("V_{n}"), "value": format!("$(V_{})", (n + 1) % 10_000)}));
    main["env"] = variables.collect::<Vec<_>>().into();
    let mounts = [json!({"name": "many", "mountPath": "/many"}), json!({"name": "full", "mountPath": "/full"})];
    main["volumeMounts"].as_array_mut().unwrap().extend(mounts);
    let mut big = pod("big", "Always", &[main]);
    let volume = |name: &str| json!({"name": name, "configMap": {"name": name}});
    big["spec"]["volumes"].as_array_mut().unwrap().extend([volume("many"), volume("full")]);
    node.apply("big.yaml", &format!("{}\n---\n{}\n---\n{big}\n", config_map("many", &many), config_map("full", &full)))
        .unwrap();
    // More than the kernel takes, all together and in one.
    let mut from = Vec::new();
    for n in 0..3 {
        let part: serde_json::Map<_, _> = (0..10).map(|v| (format!("V_{n}_{v}"), json!("x".repeat(90_000)))).collect();
        node.apply(&format!("part{n}.yaml"), &config_map(&format!("part{n}"), &part.into())).unwrap();
        from.push(json!({"configMapRef": {"name": format!("part{n}")}}));
    }
    let large = json!([{"name": "LARGE", "value": "x".repeat(200_000)}]);
    for (name, list, value) in [("sum", "envFrom", from.into()), ("one", "env", large)] {
        let mut main = shell(name, "main", "exit 0");
        main[list] = value;
        node.apply(&format!("{name}.json"), &pod(name, "Never", &[main]).to_string()).unwrap();
    }

    node.wait_ready("big").unwrap();
    let unit = node.unit("big", "main").unwrap();
    let script = format!(
        "p=/proc/$(systemctl show -p MainPID --value {unit}); cd $p/root; ls many | wc -l; cat many/key-4999; echo; wc -c < full/one; \
         tr '\\0' '\\n' < $p/environ | grep -c '^V_'"
    );
    assert_eq!(node.sandbox.sh(&script).unwrap(), "5000\nvalue 4999\n1048573\n10000\n");
    for (name, words) in
        [("sum", "env: the environment takes 27"), ("one", "env[0].value: LARGE: NAME=value is larger")]
    {
        let told = |status: &Value| {
            status["phase"] == "Failed" && status["message"].as_str().is_some_and(|m| m.contains(words))
        };
        node.wait_status(name, "the limit to be told", told).unwrap();
        assert_eq!(starts(&node, name, "main"), 0);
        node.remove(&format!("{name}.json")).unwrap();
    }
    node.remove("big.yaml").unwrap();
    wait_nothing_left(&node, "bystander");
}

fn many_containers_and_volumes(systemd: Systemd) {
    let node = Node::start(systemd, "wide").unwrap();
    let name = |kind: &str, n: usize| format!("{kind}-{n}");
    let init: Vec<Value> = (0..50).map(|n| shell("wide", &name("init", n), "exit 0")).collect();
    let app = (0..100).map(|n| {
        let mut app = shell("wide", &name("app", n), "exec sleep infinity");
        let mounts = [2 * n, 2 * n + 1].map(|v| json!({"name": name("volume", v), "mountPath": format!("/v/{v}")}));
        app["volumeMounts"].as_array_mut().unwrap().extend(mounts);
        app
    });
    let mut wide = pod("wide", "Always", &app.collect::<Vec<_>>());
    wide["spec"]["initContainers"] = init.into();
    let volumes = wide["spec"]["volumes"].as_array_mut().unwrap();
    volumes.extend((0..200).map(|n| json!({"name": name("volume", n), "emptyDir": {}})));
    node.apply("wide.json", &wide.to_string()).unwrap();
    let ready = || {
        let status = &node.report("wide")?["pod"]["status"];
        let all = status["containerStatuses"].as_array()?;
        (all.len() == 100 && all.iter().all(|c| c["ready"] == true)).then_some(())
    };
    wait_until("a hundred containers", LONG, ready).unwrap_or_else(|e| panic!("{e}\n{}", agent_log(&node)));
    for (kind, count) in [("init", 50), ("app", 100)] {
        let once = format!("cat /var/lib/count/wide.{kind}-* | wc -l; ls /var/lib/count/wide.{kind}-* | wc -l");
        assert_eq!(node.sandbox.sh(&once).unwrap(), format!("{count}\n{count}\n"));
    }
    node.remove("wide.json").unwrap();
    wait_until("the pod to be gone", LONG, || node.report("wide").is_none().then_some(())).unwrap();
    wait_nothing_left(&node, "bystander");
}

/// No line is lost or comes twice, over the container's restart, the agent's and the journal's rotation.
fn lines_are_neither_lost_nor_doubled(systemd: Systemd) {
    let node = Node::start(systemd, "lines").unwrap();
    let script = "n=$(wc -l < /count/lines.main); echo run $n; until [ -e /count/go-$n ]; do sleep 0.05; done
        echo end $n; [ $n != 1 ] || exit 7\nexec sleep infinity";
    node.apply("lines.yaml", &pod("lines", "Always", &[shell("lines", "main", script)]).to_string()).unwrap();
    node.wait_ready("lines").unwrap();
    let mut follower = node.sandbox.spawn(&["systemk", "logs", "-f", "lines"]).unwrap();
    let says = |text: &str| {
        let said = wait_until(text, SOON, || follower.stdout().ok().filter(|said| said.ends_with(text)));
        said.unwrap_or_else(|e| panic!("{e}: {:?} {:?}", follower.stdout(), follower.stderr()))
    };
    says("run 1\n");
    node.sandbox.sh("journalctl --rotate").unwrap();
    kill_agent(&node);
    node.sandbox.sh("touch /var/lib/count/go-1").unwrap();
    wait_restarted(&node, "lines", "main", 1);
    says("run 2\n");
    node.sandbox.sh("journalctl --rotate; touch /var/lib/count/go-2").unwrap();
    assert_eq!(says("end 2\n"), "run 1\nend 1\nrun 2\nend 2\n");

    // As fast as a program can, and the end of that.
    let main = shell("flood", "main", "seq 1 100000; touch /count/flooded; exec sleep infinity");
    node.apply("flood.yaml", &pod("flood", "Always", &[main]).to_string()).unwrap();
    wait_sh(&node, "the flood to be over", "[ -e /var/lib/count/flooded ]");
    let whole = "journalctl --sync; systemk logs flood | cmp - <(seq 1 100000) && echo same";
    assert_eq!(node.sandbox.sh(whole).unwrap(), "same\n");
    assert_eq!(node.sandbox.sh("systemk logs --tail 3 flood").unwrap(), "99998\n99999\n100000\n");
    for name in ["lines", "flood"] {
        node.remove(&format!("{name}.yaml")).unwrap();
    }
    let ended = follower.wait(SOON).unwrap();
    assert!(ended.is_some_and(|status| status.success()), "following ends with the pod: {ended:?}");
    wait_nothing_left(&node, "bystander");
}

on_both!(large_objects_and_environments, many_containers_and_volumes, lines_are_neither_lost_nor_doubled);
