//! The events of tasks and what may be done to them, with a stand-in for the VMM process.

use std::time::Duration;

use super::*;
use crate::container::tests::{UNTIL_START, launched};

/// No step of these tests takes this long; a hang ends here.
const HANG: Duration = Duration::from_secs(30);

fn sandbox() -> (Sandbox, impl FnMut() -> Vec<String>) {
    sandbox_with(Program { file: "/bin/false".into(), args: Vec::new() })
}

fn sandbox_with(vmm: Program) -> (Sandbox, impl FnMut() -> Vec<String>) {
    sandbox_at("/nonexistent/shim.sock".into(), vmm)
}

fn sandbox_at(socket: PathBuf, vmm: Program) -> (Sandbox, impl FnMut() -> Vec<String>) {
    let (events, topics) = Events::recorded();
    let environment = Environment {
        containerd: "/nonexistent/containerd.sock".to_owned(),
        namespace: "test".to_owned(),
        socket,
        cache: AotCache::new("/nonexistent", crate::compile::Compiler::this_executable()),
        vmm,
    };
    (Sandbox::new(environment, events), topics)
}

/// Adds a task that runs `script` after its start.
async fn add(sandbox: &Sandbox, script: &str) -> Arc<Container> {
    let (container, child) = launched(&format!("{UNTIL_START}{script}")).await.unwrap();
    let request = CreateTask { id: "t".to_owned(), ..CreateTask::default() };
    sandbox.adopt(Arc::new(container), child, &request)
}

async fn ended(container: &Container) -> u32 {
    tokio::time::timeout(HANG, container.wait()).await.unwrap().status
}

#[tokio::test]
async fn a_life_is_announced_in_order() {
    let (sandbox, mut topics) = sandbox();
    let task = add(&sandbox, "exit 3").await;

    sandbox.start("t").await.unwrap();
    ended(&task).await;
    let (_, exit) = sandbox.delete("t").await.unwrap();

    assert_eq!(topics(), ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);
    assert_eq!(exit.status, 3);
    assert!(sandbox.is_empty());
}

#[tokio::test]
async fn the_address_goes_with_the_last_task() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("shim.sock");
    std::fs::write(&socket, "").unwrap();
    let (sandbox, _) =
        sandbox_at(socket.clone(), Program { file: "/bin/false".into(), args: Vec::new() });
    let task = add(&sandbox, "exit 0").await;
    sandbox.start("t").await.unwrap();
    ended(&task).await;
    assert!(socket.exists());

    sandbox.delete("t").await.unwrap();

    assert!(!socket.exists());
    // Whoever comes now is sent to the next shim, whose address has the same name.
    std::fs::write(&socket, "").unwrap();
    let next = CreateTask { id: "next".to_owned(), ..CreateTask::default() };
    assert!(matches!(sandbox.create(next).await, Err(Error::Ending(_))));
    sandbox.close();
    assert!(socket.exists());
}

#[tokio::test]
async fn the_address_goes_with_a_first_task_that_cannot_be_created() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("shim.sock");
    std::fs::write(&socket, "").unwrap();
    let (sandbox, _) =
        sandbox_at(socket.clone(), Program { file: "/bin/false".into(), args: Vec::new() });

    let request = CreateTask { id: "t".to_owned(), ..CreateTask::default() };
    assert!(sandbox.create(request).await.is_err());

    assert!(!socket.exists());
}

#[tokio::test]
async fn a_task_that_is_killed_before_its_start_is_announced_without_one() {
    let (sandbox, mut topics) = sandbox();
    let task = add(&sandbox, "").await;

    task.kill("", 9, true).unwrap();
    ended(&task).await;
    sandbox.delete("t").await.unwrap();

    assert_eq!(topics(), ["/tasks/create", "/tasks/exit", "/tasks/delete"]);
}

#[tokio::test]
async fn a_task_that_lives_is_not_deleted_and_stays() {
    let (sandbox, _topics) = sandbox();
    let task = add(&sandbox, "sleep 60").await;
    sandbox.start("t").await.unwrap();

    let error = sandbox.delete("t").await.unwrap_err();

    assert!(matches!(error, Error::Container(_)), "{error}");
    assert_eq!(sandbox.task("t").unwrap().pid(), task.pid());
}

#[tokio::test]
async fn a_task_that_is_deleted_is_unknown() {
    let (sandbox, _topics) = sandbox();
    let task = add(&sandbox, "exit 0").await;
    sandbox.start("t").await.unwrap();
    ended(&task).await;
    sandbox.delete("t").await.unwrap();

    assert!(matches!(sandbox.delete("t").await, Err(Error::NoTask(_))));
    assert!(matches!(sandbox.task("t"), Err(Error::NoTask(_))));
    assert!(matches!(sandbox.start("t").await, Err(Error::NoTask(_))));
}

#[tokio::test]
async fn a_name_in_use_is_refused() {
    let (sandbox, _topics) = sandbox();
    let _task = add(&sandbox, "sleep 60").await;

    let request = CreateTask { id: "t".to_owned(), ..CreateTask::default() };
    assert!(matches!(sandbox.create(request).await, Err(Error::Exists(_))));
}

#[tokio::test]
async fn a_creation_that_fails_leaves_no_task_and_no_event() {
    let (sandbox, mut topics) = sandbox();

    let request =
        CreateTask { id: "t".to_owned(), bundle: "/nonexistent".into(), ..CreateTask::default() };
    let error = sandbox.create(request).await.unwrap_err();

    assert!(matches!(error, Error::Bundle(_)), "{error}");
    assert!(sandbox.is_empty());
    assert!(topics().is_empty());
}

#[tokio::test]
async fn a_task_that_is_deleted_while_it_is_being_created_ends_when_it_is_there() {
    let (sandbox, mut topics) = sandbox();
    let (creating, is_over) = watch::channel(());
    sandbox.lock().insert("t".to_owned(), Entry::Creating(is_over));
    let delete = tokio::spawn({
        let sandbox = sandbox.clone();
        async move { sandbox.delete("t").await }
    });
    tokio::task::yield_now().await;
    assert!(!delete.is_finished());

    add(&sandbox, "sleep 60").await;
    drop(creating);

    let (_, exit) = tokio::time::timeout(HANG, delete).await.unwrap().unwrap().unwrap();
    assert_eq!(exit.status, 137);
    assert_eq!(topics(), ["/tasks/create", "/tasks/exit", "/tasks/delete"]);
    assert!(sandbox.is_empty());
}

#[tokio::test]
async fn a_pod_that_is_shut_down_while_it_is_being_created_ends_when_it_is_there() {
    let (sandbox, mut topics) = sandbox();
    let (creating, is_over) = watch::channel(());
    sandbox.lock().insert("t".to_owned(), Entry::Creating(is_over));
    let end = tokio::spawn({
        let sandbox = sandbox.clone();
        async move { sandbox.end_pod().await }
    });
    tokio::task::yield_now().await;
    assert!(!end.is_finished());

    add(&sandbox, "sleep 60").await;
    drop(creating);

    tokio::time::timeout(HANG, end).await.unwrap().unwrap().unwrap();
    assert_eq!(topics(), ["/tasks/create", "/tasks/exit", "/tasks/delete"]);
    assert!(sandbox.is_empty());
    let next = CreateTask { id: "next".to_owned(), ..CreateTask::default() };
    assert!(matches!(sandbox.create(next).await, Err(Error::Ending(_))));
}

#[tokio::test]
async fn the_holder_of_a_pod_alone_keeps_no_server_that_nobody_knows_of() {
    let (sandbox, mut topics) = sandbox();
    let (holder, end) = launched(&format!("{UNTIL_START}sleep 60")).await.unwrap();
    let request = CreateTask { id: "t".to_owned(), ..CreateTask::default() };
    sandbox.adopt(Arc::new(holder.unannounced()), end, &request);
    assert!(!sandbox.has_process());

    sandbox.end_pod().await.unwrap();
    assert!(sandbox.is_empty());
    assert!(topics().is_empty());

    add(&sandbox, "sleep 60").await;
    assert!(sandbox.has_process(), "a task does");
}

#[tokio::test]
async fn a_task_that_is_deleted_twice_at_once_is_deleted_once() {
    let (sandbox, mut topics) = sandbox();
    let task = add(&sandbox, "exit 3").await;
    sandbox.start("t").await.unwrap();
    ended(&task).await;

    let (first, second) = tokio::join!(sandbox.delete("t"), sandbox.delete("t"));

    assert_eq!(first.unwrap().1.status, 3);
    assert!(matches!(second, Err(Error::NoTask(_))), "{second:?}");
    assert_eq!(topics().last().map(String::as_str), Some("/tasks/delete"));
}

#[tokio::test]
async fn a_task_that_is_deleted_while_its_creation_fails_is_unknown() {
    let (sandbox, _topics) = sandbox();
    let request =
        CreateTask { id: "t".to_owned(), bundle: "/nonexistent".into(), ..CreateTask::default() };
    let (created, deleted) = tokio::join!(sandbox.create(request), sandbox.delete("t"));

    assert!(matches!(created, Err(Error::Bundle(_))), "{created:?}");
    assert!(matches!(deleted, Err(Error::NoTask(_))), "{deleted:?}");
}

fn waiting() -> Program {
    Program { file: "/bin/sh".into(), args: vec!["-c".to_owned(), "read order".to_owned()] }
}

#[tokio::test]
async fn the_process_that_was_started_ahead_is_taken_once() {
    let (sandbox, _topics) = sandbox_with(waiting());
    sandbox.start_ahead();
    let ahead = sandbox.spare.lock().unwrap().as_ref().map(Idle::pid);

    let (first, second) = (sandbox.idle(None).unwrap(), sandbox.idle(None).unwrap());

    assert_eq!(Some(first.pid()), ahead);
    assert_ne!(second.pid(), first.pid());
}

#[tokio::test]
async fn a_process_that_was_started_ahead_and_has_died_is_replaced() {
    let (sandbox, _topics) = sandbox_with(waiting());
    sandbox.start_ahead();
    let ahead = sandbox.spare.lock().unwrap().as_ref().map(Idle::pid).unwrap();
    let kill = std::process::Command::new("kill").args(["-9", &ahead.to_string()]).status();
    assert!(kill.unwrap().success());
    let dead = || !sandbox.spare.lock().unwrap().as_mut().unwrap().is_alive();
    let until = std::time::Instant::now() + HANG;
    while !dead() {
        assert!(std::time::Instant::now() < until, "{ahead} outlives SIGKILL");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let mut idle = sandbox.idle(None).unwrap();

    assert_ne!(idle.pid(), ahead);
    assert!(idle.is_alive());
}
