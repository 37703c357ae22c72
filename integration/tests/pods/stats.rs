//! What the kubelet is told that a pod and its containers use.

use std::time::{Duration, Instant};

use integration::cri::container;
use integration::process::wait_until;
use integration::require_kvm;
use serde_json::Value;

use super::{pull, remove, script, start};

/// A `UInt64Value`, which JSON has as text.
fn number(value: &Value) -> u64 {
    value["value"].as_str().and_then(|it| it.parse().ok()).unwrap_or_default()
}

#[test]
fn the_use_of_containers_and_their_pod_is_told_in_the_units_of_the_cri() {
    require_kvm!();
    let cri = start();
    let (spin, busybox) = (pull(&cri, "spin"), cri.pull_busybox().unwrap());
    let sandbox = cri.run_pod(&cri.pod("used")).unwrap();
    let since = Instant::now();
    let spinning = cri.run(&sandbox, &container("spinning", &spin, &[])).unwrap();
    cri.run(&sandbox, &script("waiting", &busybox, "sleep 1234567")).unwrap();

    let stats = |id: &str| cri.json(&["stats", "--id", id]).unwrap()["stats"][0].clone();
    let mut told = Value::Null;
    // What takes one of its cores comes to this at once, unless the unit is not a nanosecond.
    wait_until("200 ms of CPU time", Duration::from_secs(100), || {
        told = stats(&spinning);
        number(&told["cpu"]["usageCoreNanoSeconds"]) > 200_000_000
    })
    .unwrap_or_else(|error| panic!("{error:#}: {told:#}"));
    assert_eq!(told["attributes"]["metadata"]["name"], "spinning");
    let cores = std::thread::available_parallelism().unwrap().get() as u128;
    let used = number(&told["cpu"]["usageCoreNanoSeconds"]);
    assert!(u128::from(used) < since.elapsed().as_nanos() * cores, "{told:#}");
    let (least, most) = (64 << 10, 1 << 30);
    for field in ["workingSetBytes", "usageBytes", "rssBytes"] {
        let bytes = number(&told["memory"][field]);
        assert!((least..most).contains(&bytes), "{field}: {told:#}");
    }

    let pods = cri.json(&["statsp", "--id", &sandbox.id]).unwrap();
    let pod = &pods["stats"][0];
    assert_eq!(pod["attributes"]["metadata"]["name"], "used");
    assert_eq!(pod["attributes"]["metadata"]["namespace"], "test");
    let linux = &pod["linux"];
    assert!(number(&linux["cpu"]["usageCoreNanoSeconds"]) >= used, "{pod:#}");
    assert!(number(&linux["memory"]["usageBytes"]) > least, "{pod:#}");
    assert_eq!(linux["network"]["defaultInterface"]["name"], "eth0", "{pod:#}");
    let containers = linux["containers"].as_array().unwrap();
    let mut names: Vec<_> = containers
        .iter()
        .map(|it| it["attributes"]["metadata"]["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["spinning", "waiting"]);
    remove(&cri, &sandbox);
}
