//! A container with a stand-in for the VMM process: a shell that speaks its protocol.

use std::time::Duration;

use rustix::process::geteuid;
use tokio::task::JoinHandle;

use super::*;
use crate::bundle::Namespaces;
use crate::launch::Program;
use crate::stdio;

/// No step of these tests takes this long; a hang ends here.
const HANG: Duration = Duration::from_secs(30);

/// Starts `script` as the VMM process. It needs root for its mount namespace.
pub(crate) async fn launched(script: &str) -> Option<Result<(Container, Child), LaunchError>> {
    if !geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let (task_stdio, held) = stdio::open(&StdioPaths::default()).unwrap();
    let args = vec!["-c".to_owned(), script.to_owned()];
    let launch = Launch {
        program: Program { file: "/bin/sh".into(), args },
        work: b"work".to_vec(),
        compiled: tempfile::tempfile().unwrap(),
        stdio: task_stdio,
        namespaces: Namespaces::default(),
        rootfs: PathBuf::from("/nonexistent"),
        binds: Vec::new(),
        cgroup: Cgroup::nowhere(),
        oom_score_adj: None,
    };
    let held = Held {
        stdio: held,
        cgroup: OwnedCgroup::new(Cgroup::nowhere()),
        rootfs: Rootfs::mount("/nonexistent".into(), &[]).unwrap(),
    };
    let (id, bundle) = ("t".to_owned(), PathBuf::from("/b"));
    Some(Container::create(id, bundle, StdioPaths::default(), launch, held).await)
}

/// The start of a script that takes its work, is ready, and waits for its start.
pub(crate) const UNTIL_START: &str =
    r#"cat <&3 >/dev/null; echo '"ready"' >&4; exec 4>&-; head -c1 <&5 >/dev/null; "#;

struct Watched {
    container: std::sync::Arc<Container>,
    watch: JoinHandle<()>,
}

async fn watched(script: &str) -> Option<Watched> {
    let (container, mut child) = launched(script).await?.unwrap();
    let container = std::sync::Arc::new(container);
    let ended = std::sync::Arc::clone(&container);
    let watch = tokio::spawn(async move {
        let status = child.wait().await;
        ended.ended(status, |_| {});
    });
    Some(Watched { container, watch })
}

async fn wait(container: &Container) -> u32 {
    tokio::time::timeout(HANG, container.wait()).await.unwrap().status
}

fn code(result: Result<(), ContainerError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(ContainerError::State { refusal: Refusal::Exited, .. }) => "exited",
        Err(ContainerError::State { refusal: Refusal::Started, .. }) => "started",
        Err(ContainerError::State { refusal: Refusal::Alive, .. }) => "alive",
        Err(ContainerError::Signal(_)) => "no signal",
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_task_runs_only_after_its_start_and_keeps_its_status() {
    let Some(task) = watched(&format!("{UNTIL_START} exit 42")).await else { return };
    assert_eq!(task.container.state(), State::Created);

    task.container.start().unwrap();

    assert_eq!(wait(&task.container).await, 42);
    task.watch.await.unwrap();
    assert_eq!(task.container.release().unwrap().status, 42);
}

#[tokio::test]
async fn a_second_start_is_refused() {
    let Some(task) = watched(&format!("{UNTIL_START} sleep 60")).await else { return };
    task.container.start().unwrap();

    assert_eq!(code(task.container.start()), "started");
}

#[tokio::test]
async fn a_task_that_was_never_started_can_be_killed_and_deleted() {
    let Some(task) = watched(UNTIL_START).await else { return };

    task.container.kill(9, false).unwrap();

    assert_eq!(wait(&task.container).await, 137);
    assert_eq!(code(task.container.start()), "exited");
    assert_eq!(task.container.release().unwrap().status, 137);
}

#[tokio::test]
async fn sigterm_ends_a_busy_task_with_143() {
    let Some(task) = watched(&format!("{UNTIL_START} while :; do :; done")).await else { return };
    task.container.start().unwrap();

    task.container.kill(15, false).unwrap();

    assert_eq!(wait(&task.container).await, 143);
}

#[tokio::test]
async fn a_task_that_lives_is_not_deleted() {
    let Some(task) = watched(UNTIL_START).await else { return };

    assert_eq!(code(task.container.release().map(drop)), "alive");
    task.container.start().unwrap();
    assert_eq!(code(task.container.may_delete()), "alive");
}

#[tokio::test]
async fn a_task_that_has_ended_is_deleted_again_without_harm() {
    let Some(task) = watched(&format!("{UNTIL_START} exit 1")).await else { return };
    task.container.start().unwrap();
    wait(&task.container).await;

    assert_eq!(task.container.release().unwrap(), task.container.release().unwrap());
}

#[tokio::test]
async fn killing_after_the_end_is_an_error_unless_everything_is_meant() {
    let Some(task) = watched(&format!("{UNTIL_START} exit 0")).await else { return };
    task.container.start().unwrap();
    wait(&task.container).await;

    assert_eq!(code(task.container.kill(9, false)), "exited");
    assert_eq!(code(task.container.kill(9, true)), "ok");
}

#[tokio::test]
async fn a_signal_that_does_not_exist_is_refused() {
    let Some(task) = watched(UNTIL_START).await else { return };

    for signal in [0, 32, 64, u32::MAX] {
        assert_eq!(code(task.container.kill(signal, true)), "no signal", "{signal}");
    }
}

#[tokio::test]
async fn many_wait_for_the_same_end() {
    let Some(task) = watched(&format!("{UNTIL_START} exit 7")).await else { return };
    let waiters: Vec<_> = (0..8)
        .map(|_| {
            let container = std::sync::Arc::clone(&task.container);
            tokio::spawn(async move { wait(&container).await })
        })
        .collect();

    task.container.start().unwrap();

    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), 7);
    }
}

#[tokio::test]
async fn a_vmm_that_refuses_is_quoted() {
    let script = r#"cat <&3 >/dev/null; echo '{"error":"no /dev/kvm"}' >&4; exit 1"#;
    let Some(created) = launched(script).await else { return };

    let error = created.unwrap_err();
    assert!(
        matches!(&error, LaunchError::NotReady(message) if message == "no /dev/kvm"),
        "{error}"
    );
}

#[tokio::test]
async fn a_vmm_that_dies_silently_is_named_with_its_status() {
    let Some(created) = launched("exit 9").await else { return };

    let error = created.unwrap_err().to_string();
    assert!(error.contains("exit status: 9"), "{error}");
}

#[tokio::test]
async fn a_vmm_that_talks_nonsense_is_killed() {
    let Some(created) = launched("echo hello >&4; exec 4>&-; sleep 60").await else { return };

    assert!(matches!(created, Err(LaunchError::Nonsense)), "{created:?}");
}

#[tokio::test]
async fn a_vmm_inherits_its_descriptors_and_no_others() {
    // What the test's own parent leaves open to every child is not ours to judge.
    let passed_on = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap().stdout;
    let passed_on = String::from_utf8(passed_on).unwrap();
    let script = r#"ls /proc/self/fd >/tmp/$$; n=$(tr '\n' ' ' </tmp/$$); rm /tmp/$$
        cat <&3 >/dev/null; echo "{\"error\":\"$n\"}" >&4"#;
    let Some(created) = launched(script).await else { return };

    let Err(LaunchError::NotReady(open)) = created else { panic!("{created:?}") };
    let number = |fd: &str| fd.parse::<u32>().unwrap();
    // One more than 0 to 6: the directory that ls reads.
    let ours = open.split_whitespace().filter(|fd| number(fd) > 7);
    let stray: Vec<_> = ours.filter(|fd| !passed_on.lines().any(|line| line == *fd)).collect();
    assert_eq!(stray, [""; 0], "of {open}");
}

#[tokio::test]
async fn a_vmm_has_a_mount_namespace_of_its_own() {
    let script =
        r#"n=$(readlink /proc/self/ns/mnt); cat <&3 >/dev/null; echo "{\"error\":\"$n\"}" >&4"#;
    let Some(created) = launched(script).await else { return };

    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let error = created.unwrap_err();
    assert!(matches!(&error, LaunchError::NotReady(mnt) if *mnt != own.display().to_string()));
}
