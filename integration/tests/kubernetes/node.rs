//! What changes the node, with pods on it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration::kubernetes::{Cluster, Space, pod};
use integration::process::{HANG_LIMIT, wait_until};
use integration::skipped;
use serde_json::{Value, json};

use crate::{Test, container, deployment, serving, tests};

pub(crate) const TESTS: &[Test] = &tests![
    pods_go_on_while_containerd_is_restarted,
    pods_go_on_while_the_kubelet_is_restarted,
    a_node_is_drained_and_takes_pods_again,
];

/// How many pods are there while something is restarted.
const PODS: usize = 5;

/// Asks a server of lines for one, on a connection of its own.
fn ask(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address).context("connect")?;
    stream.set_read_timeout(Some(HANG_LIMIT)).context("limit reading")?;
    stream.write_all(b"line\n").context("send")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("receive")?;
    ensure!(answer == "0 line\n", "{answer:?}");
    Ok(())
}

/// Asks every pod over and over while `restart` is done and for a while after; none may fail, or be made again.
fn under_load(cluster: &Cluster, name: &str, restart: impl FnOnce(&Space<'_>)) {
    let space = cluster.space(name).unwrap();
    let names: Vec<_> = (0..PODS).map(|number| format!("server-{number}")).collect();
    for name in &names {
        space.create_object(&pod(name, &[serving(cluster)])).unwrap();
    }
    let pods: Vec<_> = names.iter().map(|name| space.ready(name).unwrap()).collect();
    for name in &names {
        space.logged(name, "listening").unwrap();
    }
    let (stop, asked) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = pods
            .iter()
            .map(|pod| {
                let address = format!("{}:9000", pod["status"]["podIP"].as_str().unwrap());
                let (stop, asked) = (&stop, &asked);
                scope.spawn(move || {
                    while !stop.load(Ordering::Acquire) {
                        ask(&address).unwrap();
                        asked.fetch_add(1, Ordering::AcqRel);
                        std::thread::sleep(Duration::from_millis(20));
                    }
                })
            })
            .collect();
        restart(&space);
        let before = asked.load(Ordering::Acquire);
        let more = || {
            asked.load(Ordering::Acquire) > before + 100
                || clients.iter().any(|it| it.is_finished())
        };
        let answered = wait_until("answers after the restart", HANG_LIMIT, more);
        stop.store(true, Ordering::Release);
        clients.into_iter().for_each(|client| client.join().unwrap());
        answered.unwrap();
    });
    for name in &names {
        let pod = space.ready(name).unwrap();
        assert_eq!(container(&pod, "server")["restartCount"], 0, "{pod:#}");
    }
    // Old ones are reached, and new ones are made.
    let said = space.text(&["exec", "server-0", "--", "/bin/args.wasm", "after"]).unwrap();
    assert!(said.starts_with("argument after"), "{said}");
    space.create_object(&pod("late", &[serving(cluster)])).unwrap();
    space.ready("late").unwrap();
}

fn pods_go_on_while_containerd_is_restarted(cluster: &Cluster) {
    let Ok(own) = cluster.own() else {
        return skipped("the cluster's nodes are not ours to restart");
    };
    under_load(cluster, "containerd", |_| own.restart_containerd().unwrap());
}

fn pods_go_on_while_the_kubelet_is_restarted(cluster: &Cluster) {
    let Ok(own) = cluster.own() else {
        return skipped("the cluster's nodes are not ours to restart");
    };
    under_load(cluster, "kubelet", |space| {
        own.restart_kubelet().unwrap();
        // It has seen the pods when it sees one go.
        space.create_object(&pod("gone", &[serving(cluster)])).unwrap();
        space.ready("gone").unwrap();
        space.text(&["delete", "pod", "gone", "--wait=false"]).unwrap();
        space.wait_until_gone("pods/gone").unwrap();
    });
}

fn a_node_is_drained_and_takes_pods_again(cluster: &Cluster) {
    let space = cluster.space("drain").unwrap();
    space.create_object(&deployment("server", 3, pod("server", &[serving(cluster)]))).unwrap();
    let ready = |it: &Value| it["status"]["readyReplicas"] == json!(3);
    space.wait("deployments/server", "to be ready", ready).unwrap();
    let pods = space.api().get(&space.path("pods")).unwrap();
    let node = pods["items"][0]["spec"]["nodeName"].as_str().unwrap().to_owned();
    let old: Vec<_> = pods["items"].as_array().unwrap().iter().collect();
    let old: Vec<_> = old.iter().map(|it| it["metadata"]["name"].as_str().unwrap()).collect();

    space.text(&["drain", &node, "--pod-selector=app=server", "--timeout=300s"]).unwrap();
    for name in old {
        assert!(
            space.api().find(&space.path(&format!("pods/{name}"))).unwrap().is_none(),
            "{name}"
        );
    }
    space.text(&["uncordon", &node]).unwrap();
    space.wait("deployments/server", "to be ready again", ready).unwrap();
}
