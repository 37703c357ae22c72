use std::os::unix::process::ExitStatusExt;
use std::process::Command as StdCommand;

use super::*;

#[test]
fn the_last_error_of_a_log_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let lines = [
        r#"{"level":"warning","msg":"first"}"#,
        r#"{"level":"error","msg":"second","time":"x"}"#,
        r#"{"level":"error","msg":"third"}"#,
        "no JSON",
        r#"{"level":"debug","msg":"fourth"}"#,
    ];
    fs::write(&log, lines.join("\n")).unwrap();

    assert_eq!(last_error(&log).as_deref(), Some("third"));
    assert_eq!(last_error(&dir.path().join("none")), None);
}

#[test]
fn runc_is_preferred_wherever_it_is() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = env::join_paths([one.path(), two.path()]).unwrap();
    assert_eq!(find(&path), None);

    fs::write(one.path().join("crun"), "").unwrap();
    assert_eq!(find(&path), Some(one.path().join("crun")));
    fs::write(two.path().join("runc"), "").unwrap();
    assert_eq!(find(&path), Some(two.path().join("runc")));
    assert_eq!(find(OsStr::new("relative:")), None);
}

/// The end of a shell that another process has left behind, with the status `script` gives it.
async fn end_of_orphan(script: &str) -> ExitStatus {
    set_child_subreaper(Some(Pid::INIT)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let wait = format!("while [ ! -e {} ]; do sleep 0.01; done; {script}", go.display());
    let command = r#"sh -c "$1" >/dev/null 2>&1 & echo $!"#;
    let output = StdCommand::new("sh").args(["-c", command, "sh", &wait]).output().unwrap();
    let pid_file = dir.path().join("pid");
    fs::write(&pid_file, output.stdout).unwrap();
    let mut process = adopt(&pid_file).unwrap();
    fs::write(go, "").unwrap();
    tokio::time::timeout(CALL_LIMIT, process.end.wait()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_end_of_a_process_that_another_made_is_seen() {
    assert_eq!(end_of_orphan("exit 7").await.code(), Some(7));
    assert_eq!(end_of_orphan("kill -9 $$").await.signal(), Some(9));
}

#[tokio::test]
async fn a_runtime_that_refuses_is_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = OciRuntime { program: "/bin/false".into(), state: dir.path().join("state") };
    let container = LinuxContainer::left(runtime, "c1", dir.path());

    let refused = container.start().await.unwrap_err();

    assert_eq!(
        refused.to_string(),
        "/bin/false could not start the Linux container: exit status: 1"
    );
}

#[test]
fn what_is_no_process_id_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    for text in ["", "x", "-1", "0", "99999999999"] {
        fs::write(&pid_file, text).unwrap();
        assert!(adopt(&pid_file).is_err(), "{text:?}");
    }
}
