//! `hyperlight node` on a host with a real containerd of its own.

mod refused;

use anyhow::Result;
use integration::host::{CONFIG, Host};
use integration::{process, programs, require_kvm, tools};

const CONFIG_FILE: &str = "etc/containerd/config.toml";
const DROP_IN: &str = "etc/containerd/conf.d/hyperlight.toml";

fn host() -> Result<Host> {
    let host = Host::new()?;
    host.start_containerd()?;
    Ok(host)
}

#[test]
fn installing_adds_the_runtime_and_restarts_containerd_once() {
    require_kvm!();
    let host = host().unwrap();

    let said = host.node(&["install"]).unwrap().success().unwrap();

    assert!(said.contains("a micro-VM has run on trial; containerd was restarted"), "{said}");
    let asked = host.asked_of_systemd();
    assert_eq!(asked, ["is-active --quiet containerd.service", "restart containerd.service"]);
    let checked = host.node(&["check"]).unwrap().success().unwrap();
    assert!(checked.contains("containerd serves the handler hyperlight"), "{checked}");
    let config = host.read(CONFIG_FILE).unwrap();
    let import = "imports = [\"/etc/containerd/conf.d/hyperlight.toml\"]\n";
    assert_eq!(config.replace(import, ""), CONFIG);
}

#[test]
fn installing_again_changes_nothing() {
    require_kvm!();
    let host = host().unwrap();
    host.node(&["install"]).unwrap().success().unwrap();
    let (contents, asked) = (host.contents().unwrap(), host.asked_of_systemd());

    let said = host.node(&["install"]).unwrap().success().unwrap();

    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!((host.contents().unwrap(), host.asked_of_systemd()), (contents, asked));
}

#[test]
fn uninstalling_leaves_the_node_as_it_was_found() {
    require_kvm!();
    let host = host().unwrap();
    let before = host.contents().unwrap();
    host.node(&["install"]).unwrap().success().unwrap();

    host.node(&["uninstall"]).unwrap().success().unwrap();

    assert_eq!(host.contents().unwrap(), before);
    let checked = host.node(&["check"]).unwrap();
    assert_eq!(checked.code(), 125);
    assert!(checked.stderr.contains("it is not installed"), "{checked:?}");
    let again = host.node(&["uninstall"]).unwrap().success().unwrap();
    assert_eq!(again, "nothing is installed\n");
}

#[test]
fn a_node_without_a_configuration_has_none_afterwards() {
    require_kvm!();
    let host = Host::new().unwrap();
    std::fs::remove_file(host.path(CONFIG_FILE)).unwrap();
    host.start_containerd().unwrap();
    let before = host.contents().unwrap();

    host.node(&["install"]).unwrap().success().unwrap();
    host.node(&["check"]).unwrap().success().unwrap();
    host.node(&["uninstall"]).unwrap().success().unwrap();

    assert_eq!(host.contents().unwrap(), before);
}

#[test]
fn a_configuration_of_version_2_gets_a_drop_in_of_version_2() {
    require_kvm!();
    let host = Host::new().unwrap();
    let config =
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nrestrict_oom_score_adj = true\n";
    host.write(CONFIG_FILE, config).unwrap();
    host.start_containerd().unwrap();

    host.node(&["install"]).unwrap().success().unwrap();

    let drop_in = host.read(DROP_IN).unwrap();
    assert!(drop_in.contains("version = 2\n") && drop_in.contains("io.containerd.grpc.v1.cri"));
    host.node(&["check"]).unwrap().success().unwrap();
}

#[test]
fn pods_become_the_shims_and_containerds_again_on_one_of_version_4() {
    require_kvm!();
    let new = tools::tree("containerd-new").unwrap().file(&["containerd"]).unwrap();
    let host = Host::with(&new).unwrap();
    let config = CONFIG.replace("version = 3", "version = 4");
    host.write(CONFIG_FILE, &config).unwrap();
    host.start_containerd().unwrap();
    let before = host.contents().unwrap();

    for (sandboxer, is_shims) in [("shim", true), ("podsandbox", false)] {
        let said = host.node(&["install", "--sandboxer", sandboxer]).unwrap().success().unwrap();
        assert!(said.contains("containerd was restarted"), "{said}");
        let drop_in = host.read(DROP_IN).unwrap();
        assert!(drop_in.contains("version = 4\n"), "{drop_in}");
        assert_eq!(drop_in.contains("sandboxer = 'shim'\n"), is_shims, "{drop_in}");
        host.node(&["check", "--sandboxer", sandboxer]).unwrap().success().unwrap();
    }

    host.node(&["uninstall"]).unwrap().success().unwrap();
    assert_eq!(host.contents().unwrap(), before);
}

#[test]
fn an_import_that_is_there_is_enough() {
    require_kvm!();
    let host = Host::new().unwrap();
    let config = format!("imports = ['/etc/containerd/conf.d/*.toml']\n{CONFIG}");
    host.write(CONFIG_FILE, &config).unwrap();
    host.start_containerd().unwrap();

    host.node(&["install"]).unwrap().success().unwrap();

    assert_eq!(host.read(CONFIG_FILE).unwrap(), config);
    host.node(&["check"]).unwrap().success().unwrap();
}

#[test]
fn what_others_have_changed_since_stays_when_it_is_uninstalled() {
    require_kvm!();
    let host = host().unwrap();
    host.node(&["install"]).unwrap().success().unwrap();
    let theirs = host.read(CONFIG_FILE).unwrap() + "\n[debug]\n  level = 'info'\n";
    host.write(CONFIG_FILE, &theirs).unwrap();

    host.node(&["uninstall"]).unwrap().success().unwrap();

    let left = host.read(CONFIG_FILE).unwrap();
    assert!(left.contains("[debug]") && !left.contains("hyperlight"), "{left}");
    assert!(!host.path("opt/hyperlight").exists());
}

#[test]
fn an_update_replaces_the_programs_and_restarts_nothing() {
    require_kvm!();
    let host = host().unwrap();
    host.node(&["install"]).unwrap().success().unwrap();
    let asked = host.asked_of_systemd();
    // As an older version would be.
    let program = host.path("opt/hyperlight/bin/containerd-shim-hyperlight-v1");
    let installed = host.contents().unwrap();
    std::fs::write(&program, "an older one").unwrap();

    let said = host.node(&["install"]).unwrap().success().unwrap();

    assert!(said.contains("containerd needed no restart"), "{said}");
    assert_eq!((host.contents().unwrap(), host.asked_of_systemd()), (installed, asked));
}

#[test]
fn where_others_restart_containerd_it_is_said_until_they_have() {
    require_kvm!();
    let host = host().unwrap();

    let said = host.node(&["install", "--no-restart"]).unwrap();
    assert!(said.stderr.contains("restart containerd"), "{said:?}");
    assert_eq!(host.asked_of_systemd(), [""; 0]);
    let systemctl = ["restart", "containerd.service"];
    process::run(host.command("systemctl").args(systemctl)).unwrap().success().unwrap();

    process::wait_until("the runtime to be served", std::time::Duration::from_secs(60), || {
        host.node(&["install", "--no-restart"]).is_ok_and(|it| it.code() == 0)
    })
    .unwrap();
    host.node(&["check"]).unwrap().success().unwrap();
}

#[test]
fn it_stays_while_a_task_runs() {
    require_kvm!();
    stays_while_a_task_runs().unwrap();
}

fn stays_while_a_task_runs() -> Result<()> {
    let host = host()?;
    host.node(&["install"])?.success()?;
    std::fs::create_dir(host.path("var/lib/rootfs"))?;
    std::fs::copy(programs::program("spin")?, host.path("var/lib/rootfs/spin.wasm"))?;
    let ctr = |arguments: &[&str]| {
        let mut ctr = tools::tree("containerd")?.command("ctr")?;
        ctr.arg("--address").arg(host.path("run/containerd/containerd.sock"));
        process::run(ctr.args(arguments))?.success()
    };
    let shim = "/opt/hyperlight/bin/containerd-shim-hyperlight-v1";
    let options = ["run", "--detach", "--null-io", "--runtime", shim, "--rootfs"];
    ctr(&[&options[..], &["/var/lib/rootfs", "spinning", "/spin.wasm"]].concat())?;

    let refused = host.node(&["uninstall"])?;
    assert_eq!(refused.code(), 125);
    assert!(refused.stderr.contains("delete them first: container spinning"), "{refused:?}");
    assert!(host.path("opt/hyperlight").exists());

    ctr(&["task", "delete", "--force", "spinning"])?;
    ctr(&["container", "delete", "spinning"])?;
    host.node(&["uninstall"])?.success()?;
    assert!(!host.path("opt/hyperlight").exists());
    Ok(())
}
