//! The chart: what helm says of it, which values it takes, and that `manifests/` is what it renders.
//!
//! `UPDATE_MANIFESTS=1` writes what is rendered instead of comparing.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use integration::process::{self, Outcome};
use integration::{tools, workspace};

/// The namespace that `kubectl apply` needs, which helm makes by `--create-namespace`.
const NAMESPACE: &str = "\
# Rendered from charts/hyperlight with its defaults: `make manifests`.
apiVersion: v1
kind: Namespace
metadata:
  name: hyperlight-system
  labels:
    # The installer mounts the node's root file system.
    pod-security.kubernetes.io/enforce: privileged
";

fn chart() -> PathBuf {
    workspace().join("charts/hyperlight")
}

fn helm(arguments: &[&str]) -> Result<Outcome> {
    process::run(tools::tree("kubernetes")?.script("helm")?.args(arguments).current_dir(chart()))
}

fn template(arguments: &[&str]) -> Result<Outcome> {
    let release = ["template", "hyperlight", ".", "--namespace", "hyperlight-system"];
    helm(&[&release[..], arguments].concat())
}

fn rendered(arguments: &[&str]) -> String {
    template(arguments).unwrap().success().unwrap()
}

fn compare(name: &str, text: &str) {
    let path = workspace().join("manifests").join(name);
    if std::env::var_os("UPDATE_MANIFESTS").is_some_and(|it| it == "1") {
        fs::write(&path, text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == text,
        "{} is not what the chart renders: run `make manifests`",
        path.display()
    );
}

#[test]
fn helm_finds_nothing_wrong() {
    let said = helm(&["lint", "--strict", "."]).unwrap().success().unwrap();
    assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
}

#[test]
fn the_manifests_are_what_the_chart_renders() {
    compare("install.yaml", &format!("{NAMESPACE}{}", rendered(&["--no-hooks"])));
    compare("uninstall.yaml", &rendered(&["--show-only", "templates/uninstall.yaml"]));
}

#[test]
fn chart_and_image_have_the_version_of_the_workspace() {
    let chart = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    for line in ["version", "appVersion"] {
        assert!(chart.contains(&format!("\n{line}: {}\n", env!("CARGO_PKG_VERSION"))), "{chart}");
    }
}

#[test]
fn values_of_other_names_or_types_are_refused() {
    for (value, named) in [
        ("nosuch=1", "nosuch"),
        ("containerd.nosuch=1", "nosuch"),
        ("containerd.distribution=docker", "distribution"),
        ("containerd.config=relative/path", "config"),
        ("containerd.sandboxer=docker", "sandboxer"),
        ("containerd.restart.by=hand", "by"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.repository=", "repository"),
        ("runtimeClass.overhead.memory=lots", "memory"),
        ("runtimeClass.name=Hyper Light", "name"),
        ("prefix=opt", "prefix"),
        ("cache.size=large", "size"),
        ("aot.memory=lots", "memory"),
        ("aot.cpuSeconds=0", "cpuSeconds"),
        ("aot.parallel=1.5", "parallel"),
        ("http.isolation=some", "isolation"),
        ("metrics.enabled=yes", "enabled"),
        ("metrics.port=0", "port"),
        ("metrics.port=8086", "port"),
        ("interval=soon", "interval"),
        ("hostPID=maybe", "hostPID"),
        ("updateStrategy.maxUnavailable=0", "maxUnavailable"),
    ] {
        let said = template(&["--set", value]).unwrap();
        assert_ne!(said.code(), 0, "{value} was taken");
        assert!(said.stderr.contains(named), "{value}: {}", said.stderr);
    }
}

#[test]
fn a_restart_by_a_command_needs_the_command() {
    let said = template(&["--set", "containerd.restart.by=command"]).unwrap();
    assert!(said.stderr.contains("set containerd.restart.command"), "{said:?}");
}

#[test]
fn each_value_becomes_an_option_of_the_installer() {
    for (value, option) in [
        ("containerd.distribution=k3s", "--distribution=k3s"),
        ("containerd.config=/a", "--containerd-config=/a"),
        ("containerd.dropIn=/b", "--drop-in=/b"),
        ("containerd.binary=/c", "--containerd=/c"),
        ("containerd.socket=/d", "--containerd-socket=/d"),
        ("containerd.sandboxer=shim", "--sandboxer=shim"),
        ("containerd.restart.by=others", "--no-restart"),
        ("prefix=/e", "--prefix=/e"),
        ("cache.size=8GiB", "--cache-size=8GiB"),
        ("aot.memory=2GiB", "--aot-memory=2GiB"),
        ("aot.cpuSeconds=1000000", "--aot-cpu-seconds=1000000"),
        ("aot.parallel=1", "--aot-parallel=1"),
        ("http.isolation=instance", "--http-isolation=instance"),
        ("interval=1h", "--interval=1h"),
    ] {
        let text = rendered(&["--show-only", "templates/daemonset.yaml", "--set", value]);
        assert!(text.lines().any(|line| line.trim() == format!("- {option}")), "{option}: {text}");
    }
    let by_command =
        "containerd.restart.by=command,containerd.restart.command=rc-service k3s restart";
    let text = rendered(&["--set", by_command]);
    assert!(text.contains("- \"--restart-command=rc-service k3s restart\""), "{text}");
}

#[test]
fn metrics_are_found_by_the_pods_annotations() {
    let daemon_set = |values| {
        rendered(&["--show-only", "templates/daemonset.yaml", "--set", values])
            .lines()
            .map(|line| line.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let on = daemon_set("metrics.enabled=true,metrics.port=9100");
    for line in [
        "prometheus.io/scrape: \"true\"",
        "prometheus.io/port: \"9100\"",
        "prometheus.io/path: /metrics",
        "- --metrics-port=9100",
        "- name: metrics",
        "containerPort: 9100",
    ] {
        assert!(on.iter().any(|it| it == line), "{line}: {on:?}");
    }
    let off = daemon_set("metrics.enabled=false").join("\n");
    assert!(!off.contains("prometheus") && !off.contains("metrics"), "{off}");
}

#[test]
fn the_options_of_the_daemon_set_are_those_of_the_installer() {
    let values =
        "cache.size=8GiB,aot.memory=2GiB,aot.cpuSeconds=60,aot.parallel=1,metrics.enabled=true";
    let text = rendered(&["--show-only", "templates/daemonset.yaml", "--set", values]);
    let arguments = text.lines().skip_while(|line| line.trim() != "args:").skip(1);
    let arguments: Vec<_> = arguments
        .map_while(|line| {
            line.trim().strip_prefix("- ").or(line.trim().strip_prefix('#').map(|_| ""))
        })
        .collect();
    let options =
        arguments.iter().filter_map(|it| it.split('=').next()).filter(|it| it.starts_with("--"));
    for verb in ["install", "uninstall"] {
        let help = process::run(
            std::process::Command::new(integration::hyperlight().unwrap())
                .args(["node", verb, "--help"]),
        );
        let help = help.unwrap().success().unwrap();
        for option in options.clone() {
            assert!(
                help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")),
                "{verb} has no {option}: {help}"
            );
        }
    }
    assert_eq!(
        arguments.iter().filter(|it| !it.is_empty()).take(2).collect::<Vec<_>>(),
        [&"node", &"install"]
    );
}

#[test]
fn the_installer_has_no_rights_but_one() {
    let text = rendered(&["--show-only", "templates/daemonset.yaml"]);
    for line in [
        "privileged: false",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "drop: [ALL]",
        "add: [SYS_CHROOT]",
    ] {
        assert!(text.lines().any(|it| it.trim() == line), "{line}: {text}");
    }
    assert!(!text.contains("hostPID") && !text.contains("hostNetwork"), "{text}");
}

#[test]
fn each_example_names_the_runtime_class_and_an_image_that_can_be_replaced() -> Result<()> {
    let directory = workspace().join("manifests/examples");
    for entry in
        fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?
    {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        assert!(text.contains("runtimeClassName: hyperlight"), "{}", path.display());
        for image in text.lines().filter_map(|line| line.trim().strip_prefix("image: ")) {
            assert!(
                image.starts_with("registry.example/hyperlight/"),
                "{}: {image}",
                path.display()
            );
        }
    }
    Ok(())
}
