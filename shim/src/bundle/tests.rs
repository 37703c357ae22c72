//! `config.json` as containerd writes it, and as it must not be.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::jail::{ResourceLimit, User};

fn config() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/app.wasm", "x"],
            "env": ["A=1", "EMPTY=", "NO_VALUE", "=x"], "oomScoreAdj": 100
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro"]},
            {"destination": "/out", "source": "/srv/out", "options": ["bind", "rw"]}
        ],
        "linux": {
            "cgroupsPath": "/default/c1",
            "resources": {"memory": {"limit": 67_108_864}},
            "namespaces": [
                {"type": "pid"}, {"type": "mount"}, {"type": "uts"},
                {"type": "network", "path": "/var/run/netns/x"}
            ]
        }
    })
}

fn read(config: &Value) -> Result<Bundle, BundleError> {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    Bundle::read(dir.path(), "default", "c1")
}

fn root(config: &Value) -> crate::jail::Root {
    match read(config).unwrap().confinement.view {
        View::Root(root) => root,
        View::Of(path) => panic!("{path:?}"),
    }
}

fn with(pointer: &str, value: Value) -> Value {
    let mut config = config();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[key] = value;
    config
}

#[test]
fn arguments_come_as_they_are() {
    let args: Vec<_> = read(&config()).unwrap().args.into_iter().map(String::from).collect();

    assert_eq!(args, ["/app.wasm", "x"]);
}

#[test]
fn the_working_directory_reaches_the_program() {
    let workload = |config| read(&config).unwrap().workload(1, "app.wasm", false).unwrap();

    let srv = workload(with("/process/cwd", json!("/srv")));
    let none = workload(with("/process/cwd", json!("")));

    assert_eq!(srv.cwd.map(String::from).as_deref(), Some("/srv"));
    assert_eq!(none.cwd, None);
}

#[test]
fn environment_entries_without_a_name_or_value_are_left_out() {
    let env: Vec<_> = read(&config()).unwrap().env.into_iter().map(String::from).collect();

    assert_eq!(env, ["A=1", "EMPTY="]);
}

#[test]
fn only_bind_mounts_show_something_of_the_host() {
    let bind = |source: &str, destination: &str, recursive, read_only| Mount {
        destination: destination.into(),
        kind: MountKind::Bind { source: source.into(), recursive, follows_host: false },
        read_only,
    };

    assert_eq!(
        root(&config()).mounts,
        [bind("/srv/data", "/data", true, true), bind("/srv/out", "/out", false, false)]
    );
}

#[test]
fn a_tmpfs_keeps_its_own_options() {
    let options = json!(["nosuid", "noexec", "mode=755", "size=64k", "tmpcopyup"]);
    let tmpfs = json!([{
        "destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": options
    }]);

    let kind = MountKind::Tmpfs { options: "mode=755,size=64k".to_owned() };
    let expected = Mount { destination: "/run".into(), kind, read_only: false };
    assert_eq!(root(&with("/mounts", tmpfs)).mounts, [expected]);
}

#[test]
fn a_bind_mount_follows_the_host_only_where_it_is_told_to() {
    let follows = |option: &str| {
        let options = json!(["rbind", option]);
        let bind = json!([{"destination": "/d", "source": "/srv", "options": options}]);
        let mounts = root(&with("/mounts", bind)).mounts;
        matches!(mounts[0].kind, MountKind::Bind { follows_host: true, .. })
    };

    assert_eq!(["rslave", "rshared", "rprivate", "rw"].map(follows), [true, true, false, false]);
}

#[test]
fn paths_are_masked_and_read_only_as_the_specification_says() {
    let mut config = with("/linux/maskedPaths", json!(["/secret"]));
    config["linux"]["readonlyPaths"] = json!(["/etc"]);

    let root = root(&config);

    assert_eq!((root.masked, root.read_only_paths), (vec!["/secret".into()], vec!["/etc".into()]));
}

#[test]
fn the_user_and_the_limits_come_as_they_are() {
    let user = json!({"uid": 7, "gid": 8, "additionalGids": [9], "umask": 63});
    let mut config = with("/process/user", user);
    config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "hard": 20, "soft": 10}]);

    let confinement = read(&config).unwrap().confinement;

    assert_eq!(confinement.user, User { uid: 7, gid: 8, groups: vec![9], umask: Some(63) });
    let limit = ResourceLimit { name: "RLIMIT_NOFILE".to_owned(), soft: 10, hard: 20 };
    assert_eq!(confinement.limits, [limit]);
}

#[test]
fn the_root_file_system_is_beneath_the_bundle_with_its_access() {
    let bundle = read(&config()).unwrap();

    assert_eq!(bundle.rootfs, bundle.dir.join("rootfs"));
    assert!(root(&config()).read_only);
}

#[test]
fn an_absolute_root_is_taken_as_it_is() {
    let bundle = read(&with("/root/path", json!("/srv/root"))).unwrap();

    assert_eq!(bundle.rootfs, Path::new("/srv/root"));
}

#[test]
fn namespaces_are_joined_by_path_or_made() {
    let namespaces = read(&config()).unwrap().confinement.namespaces;

    assert_eq!(namespaces.network, Some(Namespace::Join("/var/run/netns/x".into())));
    assert_eq!((namespaces.uts, namespaces.ipc), (Some(Namespace::New), None));
    assert_eq!(namespaces.pid, Some(Namespace::New));
}

#[test]
fn the_memory_limit_bounds_the_micro_vm() {
    let workload = read(&config()).unwrap().workload(1, "app.wasm", false).unwrap();

    assert_eq!(workload.memory.get(), 46 << 20);
}

#[test]
fn without_a_cgroup_path_there_is_one_per_namespace_and_name() {
    let bundle = read(&with("/linux/cgroupsPath", Value::Null)).unwrap();

    assert_eq!(bundle.cgroup_path, Path::new("default/c1"));
}

#[test]
fn a_pod_is_the_group_of_its_containers() {
    let dir = TempDir::new().unwrap();
    let config = with("/annotations", json!({"io.kubernetes.cri.sandbox-id": "pod1"}));
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();

    assert_eq!(group(dir.path(), "c1").unwrap(), "pod1");
}

#[test]
fn a_container_outside_pods_is_its_own_group() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("config.json"), config().to_string()).unwrap();

    assert_eq!(group(dir.path(), "c1").unwrap(), "c1");
}

#[test]
fn the_workload_opens_the_root_and_each_bound_directory() {
    let (data, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut config = config();
    config["mounts"][1]["source"] = json!(data.path());
    config["mounts"][2]["source"] = json!(out.path());
    let bundle = read(&config).unwrap();

    let workload = bundle.workload(1, "app.wasm", false).unwrap();

    let seen: Vec<_> =
        workload.preopens.iter().map(|p| (p.guest_path.as_str(), p.read_only)).collect();
    assert_eq!(seen, [("/", false), ("/data", true), ("/out", false)]);
}

#[test]
fn what_cannot_be_run_is_refused_with_its_reason() {
    let climbing = json!([{"destination": "/a/../b", "source": "/s", "options": ["bind"]}]);
    let cases = [
        (with("/process/args", json!([])), "no process.args"),
        (with("/process", Value::Null), "no process"),
        (with("/root", Value::Null), "no root"),
        (with("/process/args", json!(["a\0b"])), "NUL byte"),
        (with("/process/env", json!(["A=\0"])), "NUL byte"),
        (with("/mounts", climbing), "mount destination"),
        (with("/linux/cgroupsPath", json!("/../x")), "contains \"..\""),
        (with("/linux/resources", json!({"memory": {"limit": 1}})), "memory limit of 1 bytes"),
    ];
    for (config, reason) in cases {
        let error = crate::error::line(&read(&config).unwrap_err());
        assert!(error.contains(reason), "{error:?} lacks {reason:?}");
    }
}

fn role(config: &Value) -> Result<Role, BundleError> {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    Role::read(dir.path(), "default", "c1")
}

/// The bundle of a pause container with `linux`.
fn pause(linux: Value) -> Value {
    let mut config = with("/linux", linux);
    config["annotations"] = json!({"io.kubernetes.cri.container-type": "sandbox"});
    config["hostname"] = json!("pod-a");
    config
}

#[test]
fn a_pause_container_is_a_pod() {
    let linux = json!({
        "cgroupsPath": "/kubepods/x/y",
        "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "namespaces": [{"type": "pid"}, {"type": "uts"}, {"type": "network", "path": "/n"}]
    });
    let Role::Pod(pod) = role(&pause(linux)).unwrap() else { panic!("no pod") };
    let namespaces = Namespaces {
        network: Some(Namespace::Join("/n".into())),
        uts: Some(Namespace::New),
        pid: Some(Namespace::New),
        ipc: None,
    };
    let expected = Pod {
        namespaces,
        host_name: Some("pod-a".to_owned()),
        parameters: [("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())].into(),
        cgroup_path: "kubepods/x/y".into(),
        resources: None,
        oom_score_adj: Some(100),
        hooks: None,
        files: None,
    };
    assert_eq!(*pod, expected);
}

#[test]
fn a_pod_in_the_node_s_namespaces_does_not_name_the_node() {
    let Role::Pod(pod) = role(&pause(json!({"namespaces": []}))).unwrap() else { panic!("no pod") };
    assert_eq!(pod.host_name, None);
}

#[test]
fn a_pod_with_a_user_namespace_is_refused() {
    let refused = role(&pause(json!({"namespaces": [{"type": "user"}]}))).unwrap_err();
    assert!(matches!(refused, BundleError::UserNamespace), "{refused}");
}

#[test]
fn a_file_that_is_no_json_is_named() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("config.json"), "{").unwrap();

    let error = Bundle::read(dir.path(), "default", "c1").unwrap_err();

    assert!(error.to_string().ends_with("config.json"), "{error}");
}

#[test]
fn a_pod_without_a_configuration_is_its_own_group() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(group(dir.path(), "pod").unwrap(), "pod");

    fs::write(dir.path().join("config.json"), "{").unwrap();
    assert!(matches!(group(dir.path(), "pod"), Err(BundleError::Json { .. })));
}
