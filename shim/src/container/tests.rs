//! A container with a stand-in for the VMM process: a shell that speaks its protocol.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::*;
use crate::launch::{Confinement, LaunchError, Program, Work};
use crate::stdio::{self, Owner};

/// No step of these tests takes this long; a hang ends here.
const HANG: Duration = Duration::from_secs(30);

/// Starts `script` as the VMM process.
pub(crate) async fn launched(script: &str) -> Result<(Container, ProcessEnd), LaunchError> {
    let (vmm, held) = ready(script).await?;
    let held = Held {
        stdio: held,
        cgroup: OwnedCgroup::new(Cgroup::nowhere()),
        rootfs: Rootfs::mount("/nonexistent".into(), &[]).unwrap(),
        linux: None,
        hooks: None,
    };
    let (id, bundle) = ("t".to_owned(), PathBuf::from("/b"));
    Ok(Container::new(id, bundle, StdioPaths::default(), vmm, held, Steps::begin()))
}

/// Starts `script` as a VMM process and waits until it says that it is ready.
async fn ready(script: &str) -> Result<(Launched, HeldStdio), LaunchError> {
    let owner = Owner { namespace: "test", id: "t", in_pod: false };
    let (task_stdio, held) = stdio::open(&StdioPaths::default(), owner, None).await.unwrap();
    let args = vec!["-c".to_owned(), script.to_owned()];
    let mut idle = Program { file: "/bin/sh".into(), args }.spawn()?;
    idle.confine(Confinement::default()).await?;
    let workload = serde_json::json!({
        "program_name": "app.wasm", "args": [], "env": [], "preopens": [],
        "memory": 1 << 20,
    });
    let work = Work {
        workload: serde_json::from_value(workload).unwrap(),
        program: tempfile::tempfile().unwrap(),
        snapshot: tempfile::tempfile().unwrap(),
        image: tempfile::tempfile().unwrap(),
        stdio: task_stdio,
    };
    Ok((idle.run(work).await?, held))
}

/// The start of a script that takes its two orders, is ready, and waits for its start.
pub(crate) const UNTIL_START: &str = r#"read confine; read run;
    echo '{"ready":{"confine":1,"join":2,"lock":5,"boot":3,"cpu":4}}' >&0; read start || exit 125; "#;

struct Watched {
    container: Arc<Container>,
    watch: JoinHandle<()>,
}

async fn watched(script: &str) -> Watched {
    let (container, mut child) = launched(script).await.unwrap();
    let container = Arc::new(container);
    let ended = Arc::clone(&container);
    let watch = tokio::spawn(async move {
        let status = child.wait().await;
        ended.ended(status, |_| {});
    });
    Watched { container, watch }
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
        Err(ContainerError::State { refusal: Refusal::NotStarted, .. }) => "not started",
        Err(ContainerError::State { refusal: Refusal::Paused, .. }) => "paused",
        Err(ContainerError::NoExec { .. }) => "no exec",
        Err(ContainerError::ExecExists { .. }) => "exec exists",
        Err(ContainerError::Signal(_)) => "no signal",
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_task_runs_only_after_its_start_and_keeps_its_status() {
    let task = watched(&format!("{UNTIL_START} exit 42")).await;
    assert_eq!(task.container.state(), State::Created);

    task.container.start().unwrap();

    assert_eq!(wait(&task.container).await, 42);
    task.watch.await.unwrap();
    assert_eq!(task.container.release().unwrap().status, 42);
}

#[tokio::test]
async fn a_second_start_is_refused() {
    let task = watched(&format!("{UNTIL_START} sleep 60")).await;
    task.container.start().unwrap();

    assert_eq!(code(task.container.start()), "started");
}

#[tokio::test]
async fn a_task_that_was_never_started_can_be_killed_and_deleted() {
    let task = watched(UNTIL_START).await;

    task.container.kill("", 9, false).unwrap();

    assert_eq!(wait(&task.container).await, 137);
    assert_eq!(code(task.container.start()), "exited");
    assert_eq!(task.container.release().unwrap().status, 137);
}

#[tokio::test]
async fn sigterm_ends_a_busy_task_with_143() {
    let task = watched(&format!("{UNTIL_START} while :; do :; done")).await;
    task.container.start().unwrap();

    task.container.kill("", 15, false).unwrap();

    assert_eq!(wait(&task.container).await, 143);
}

#[tokio::test]
async fn a_task_that_lives_is_not_deleted() {
    let task = watched(UNTIL_START).await;

    assert_eq!(code(task.container.release().map(drop)), "alive");
    task.container.start().unwrap();
    assert_eq!(code(task.container.may_delete()), "alive");
}

#[tokio::test]
async fn a_task_that_has_ended_is_deleted_again_without_harm() {
    let task = watched(&format!("{UNTIL_START} exit 1")).await;
    task.container.start().unwrap();
    wait(&task.container).await;

    assert_eq!(task.container.release().unwrap(), task.container.release().unwrap());
}

#[tokio::test]
async fn killing_after_the_end_is_an_error_unless_everything_is_meant() {
    let task = watched(&format!("{UNTIL_START} exit 0")).await;
    task.container.start().unwrap();
    wait(&task.container).await;

    assert_eq!(code(task.container.kill("", 9, false)), "exited");
    assert_eq!(code(task.container.kill("", 9, true)), "ok");
}

#[tokio::test]
async fn a_signal_that_does_not_exist_is_refused() {
    let task = watched(UNTIL_START).await;

    for signal in [0, 65, u32::MAX] {
        assert_eq!(code(task.container.kill("", signal, true)), "no signal", "{signal}");
    }
}

#[tokio::test]
async fn many_wait_for_the_same_end() {
    let task = watched(&format!("{UNTIL_START} exit 7")).await;
    let waiters: Vec<_> = (0..8)
        .map(|_| {
            let container = Arc::clone(&task.container);
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
    let script = r#"read confine; read run; echo '{"error":"no /dev/kvm"}' >&0; exit 1"#;

    let error = launched(script).await.unwrap_err();
    assert!(
        matches!(&error, LaunchError::NotReady(message) if message == "no /dev/kvm"),
        "{error}"
    );
}

#[tokio::test]
async fn a_vmm_that_dies_silently_is_named_with_its_status() {
    let error = launched("exit 9").await.unwrap_err().to_string();
    assert!(error.contains("exit status: 9"), "{error}");
}

#[tokio::test]
async fn a_vmm_that_talks_nonsense_is_killed() {
    let created = launched("echo hello >&0; sleep 60").await;

    assert!(matches!(created, Err(LaunchError::Nonsense)), "{created:?}");
}

#[tokio::test]
async fn a_vmm_inherits_its_socket_and_nothing_else() {
    // What the test's own parent leaves open to every child is not ours to judge.
    let passed_on = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap().stdout;
    let passed_on = String::from_utf8(passed_on).unwrap();
    // The output is moved for good: for a single command, a shell keeps it elsewhere meanwhile.
    let script = r#"exec >&0; read confine; read run
        echo '{"ready":{"confine":1,"join":2,"lock":5,"boot":3,"cpu":4}}'; read start"#;
    let task = watched(script).await;

    let open = |fd: &str| {
        let link = format!("/proc/{}/fd/{fd}", task.container.pid());
        std::fs::read_link(link).unwrap().display().to_string()
    };
    let list = std::fs::read_dir(format!("/proc/{}/fd", task.container.pid())).unwrap();
    let fds = list.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stray: Vec<_> = fds
        .filter(|fd| fd.parse::<u32>().unwrap() > 2 && !passed_on.lines().any(|line| line == *fd))
        .map(|fd| open(&fd))
        .collect();
    assert_eq!(stray, [""; 0]);
    assert!(open("0").starts_with("socket:"), "{}", open("0"));
}

#[tokio::test]
async fn a_vmm_is_called_what_it_is_and_has_no_environment_of_the_shims() {
    let script = r#"a=$(tr '\0' ' ' </proc/$$/cmdline | cut -d' ' -f1); read confine; read run
        echo "{\"error\":\"$a${HOME-}\"}" >&0"#;

    let Err(LaunchError::NotReady(name)) = launched(script).await else { panic!("no answer") };
    assert_eq!(name, "hyperlight-vmm");
}

#[tokio::test]
async fn an_idle_vmm_ends_with_the_shim() {
    let args = vec!["-c".to_owned(), "read confine || exit 3; exit 4".to_owned()];
    let idle = Program { file: "/bin/sh".into(), args }.spawn().unwrap();

    let status = idle.abandoned().await;

    assert_eq!(status.code(), Some(3));
}

#[tokio::test]
async fn real_time_signals_are_sent() {
    let task = watched(&format!("{UNTIL_START} sleep 60")).await;
    task.container.start().unwrap();

    task.container.kill("", 64, false).unwrap();

    assert_eq!(wait(&task.container).await, 128 + 64);
}

fn exec_of(args: &[&str]) -> oci_spec::runtime::Process {
    let process = serde_json::json!({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}});
    serde_json::from_value(process).unwrap()
}

fn add(container: &Container, id: &str) -> Result<(), ContainerError> {
    container.add_exec(id.to_owned(), exec_of(&["x.wasm"]), StdioPaths::default())
}

#[tokio::test]
async fn an_exec_that_was_not_started_has_no_process_and_can_be_removed() {
    let task = watched(UNTIL_START).await;
    add(&task.container, "e").unwrap();

    let exec = task.container.exec("e").unwrap();
    assert_eq!((exec.process.state(), exec.process.pid()), (State::Created, 0));
    assert_eq!(code(task.container.kill("e", 9, false)), "not started");
    assert_eq!(task.container.pids(), [(task.container.pid(), None)]);
    assert!(task.container.remove_exec("e").unwrap().1.is_none());
    assert_eq!(code(task.container.remove_exec("e").map(drop)), "no exec");
    assert_eq!(code(task.container.kill("e", 9, true)), "no exec");
}

#[tokio::test]
async fn the_name_of_an_exec_is_taken_once_and_its_start_begun_once() {
    let task = watched(UNTIL_START).await;
    add(&task.container, "e").unwrap();

    assert_eq!(code(add(&task.container, "e")), "exec exists");
    let exec = task.container.exec("e").unwrap();
    exec.begin().unwrap();
    assert_eq!(code(exec.begin()), "started");
}

#[tokio::test]
async fn a_container_that_has_ended_takes_no_exec() {
    let task = watched(&format!("{UNTIL_START} exit 0")).await;
    task.container.start().unwrap();
    wait(&task.container).await;

    assert_eq!(code(add(&task.container, "e")), "exited");
}

#[tokio::test]
async fn only_what_runs_is_paused_and_what_is_paused_takes_no_exec() {
    let task = watched(&format!("{UNTIL_START} sleep 60")).await;
    assert_eq!(code(task.container.pause()), "not started");
    task.container.start().unwrap();

    // Its control group is nowhere: there is nothing to freeze.
    assert!(matches!(task.container.pause(), Err(ContainerError::Cgroup(CgroupError::NoFreezer))));
    assert_eq!(task.container.state(), State::Running);
    task.container.process.step(Step::Pause).unwrap();
    assert_eq!(code(add(&task.container, "e")), "paused");
}

/// Starts `script` as exec `e` of a container.
async fn exec(container: &Container, script: &str) -> Arc<Exec> {
    add(container, "e").unwrap();
    let exec = container.exec("e").unwrap();
    let (vmm, held) = ready(&format!("{UNTIL_START}{script}")).await.unwrap();
    let Launched { pid, pidfd, start, mut end, cost: _ } = vmm;
    exec.process.launched(pid, pidfd, start, held);
    exec.process.start().unwrap();
    let ended = Arc::clone(&exec);
    tokio::spawn(async move {
        let status = end.wait().await;
        ended.process.ended(status, |_| {});
    });
    exec
}

#[tokio::test]
async fn a_signal_reaches_execs_if_it_is_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let trap = format!(
        "trap 'exit 5' USR2; trap '' USR1; : >{}/$$; while :; do sleep 0.01; done",
        dir.path().display()
    );
    let task = watched(&format!("{UNTIL_START}{trap}")).await;
    task.container.start().unwrap();
    let exec = exec(&task.container, &trap).await;
    assert_eq!(
        task.container.pids(),
        [(task.container.pid(), None), (exec.process.pid(), Some("e".to_owned()))]
    );
    let trapped = || std::fs::read_dir(dir.path()).unwrap().count() == 2;
    tokio::time::timeout(HANG, async {
        while !trapped() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();

    task.container.kill("", 10, true).unwrap();
    assert_eq!(exec.process.state(), State::Running);
    task.container.kill("", 12, true).unwrap();

    let ended = tokio::time::timeout(HANG, exec.process.wait()).await.unwrap();
    assert_eq!((ended.status, wait(&task.container).await), (5, 5));
}

#[tokio::test]
async fn execs_are_ended_and_waited_for() {
    let task = watched(&format!("{UNTIL_START} sleep 60")).await;
    task.container.start().unwrap();
    let exec = exec(&task.container, "sleep 60").await;
    assert!(task.container.keeps(&exec));
    assert_eq!(code(task.container.remove_exec("e").map(drop)), "alive");

    tokio::time::timeout(HANG, task.container.end_execs()).await.unwrap();

    assert_eq!(exec.process.state().exit().map(|exit| exit.status), Some(137));
    assert_eq!(code(task.container.kill("e", 9, false)), "exited");
    assert_eq!(code(task.container.kill("e", 9, true)), "ok");
    assert_eq!(task.container.remove_exec("e").unwrap().1.map(|exit| exit.status), Some(137));
    assert!(!task.container.keeps(&exec));
}
