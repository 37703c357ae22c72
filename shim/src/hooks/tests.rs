//! Hooks without containers: what they are told, and how they fail.

use std::fs;

use serde_json::{Value, json};

use super::*;

/// The hooks of a specification with `hooks`, in a bundle of its own.
fn hooks(hooks: Value) -> (tempfile::TempDir, Hooks) {
    let bundle = tempfile::tempdir().unwrap();
    let annotations = json!({"example.com/color": "blue"});
    let spec = json!({"ociVersion": "1.1.0", "hooks": hooks, "annotations": annotations});
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let hooks = Hooks::of(&spec, bundle.path(), "c").unwrap();
    (bundle, hooks)
}

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]})
}

#[test]
fn a_hook_gets_the_state_its_arguments_and_no_environment_but_its_own() {
    let script = "cat >state; echo \"$0 $1\" >arguments; env >environment";
    let hook = json!({
        "path": "/bin/sh", "args": ["sh", "-c", script, "name", "one"],
        "env": ["PATH=/bin:/usr/bin", "GIVEN=yes"],
    });
    let (bundle, hooks) = hooks(json!({"poststart": [hook]}));

    hooks.started(4711).unwrap();

    let read = |name: &str| fs::read_to_string(bundle.path().join(name)).unwrap();
    let state: Value = serde_json::from_str(&read("state")).unwrap();
    let expected = json!({
        "ociVersion": "1.1.0", "id": "c", "status": "running", "pid": 4711,
        "bundle": bundle.path(), "annotations": {"example.com/color": "blue"},
    });
    assert_eq!(state, expected);
    assert_eq!(read("arguments"), "name one\n");
    let environment = read("environment");
    assert!(environment.contains("GIVEN=yes\n"), "{environment}");
    assert!(!environment.contains("HOME="), "{environment}");
}

#[test]
fn hooks_run_in_their_order_up_to_the_first_that_fails() {
    let hooks_of = |scripts: &[&str]| scripts.iter().map(|it| shell(it)).collect::<Vec<_>>();
    let (bundle, hooks) = hooks(json!({
        "prestart": hooks_of(&["echo prestart >>said"]),
        "createRuntime": hooks_of(&["echo one >>said", "echo two >&2; exit 3", "echo three >>said"]),
    }));

    let error = hooks.create(std::process::id()).unwrap_err();

    assert_eq!(fs::read_to_string(bundle.path().join("said")).unwrap(), "prestart\none\n");
    assert!(matches!(error, HookError::Failed { kind: Kind::CreateRuntime, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("/bin/sh") && text.contains("exit status: 3): two"), "{text}");
}

#[test]
fn every_hook_of_the_end_runs_whatever_became_of_the_others() {
    let (bundle, hooks) = hooks(json!({"poststop": [shell("exit 1"), shell("cat >state")]}));

    hooks.stopped();

    let state = fs::read(bundle.path().join("state")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!((&state["status"], state.get("pid")), (&json!("stopped"), None));
}

#[test]
fn a_hook_that_takes_too_long_is_ended_with_what_it_has_started() {
    let mut hook = shell("sleep 1000 & echo $! >child; sleep 1000");
    // Within it the shell has to come to its end.
    hook["timeout"] = json!(5);
    let (bundle, hooks) = hooks(json!({"poststart": [hook]}));

    let error = hooks.started(1).unwrap_err();

    assert!(matches!(error, HookError::TimedOut { kind: Kind::Poststart, .. }), "{error}");
    let child = fs::read_to_string(bundle.path().join("child")).unwrap();
    let is_alive = || {
        // Nobody may wait for it here.
        let status = fs::read_to_string(format!("/proc/{}/status", child.trim()));
        status.is_ok_and(|status| !status.contains("State:\tZ"))
    };
    let until = Instant::now() + Duration::from_secs(30);
    while is_alive() {
        assert!(Instant::now() < until, "{child} lives");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_hook_whose_child_keeps_its_output_is_not_waited_for_longer() {
    let mut hook = shell("sleep 1000 & echo $! >child");
    hook["timeout"] = json!(60);
    let (bundle, hooks) = hooks(json!({"poststart": [hook]}));

    hooks.started(1).unwrap();

    let child = fs::read_to_string(bundle.path().join("child")).unwrap();
    let killed = Command::new("kill").args(["-9", child.trim()]).status().unwrap();
    assert!(killed.success());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let (_bundle, hooks) = hooks(json!({"poststart": [{"path": "/nonexistent/hook"}]}));

    let error = hooks.started(1).unwrap_err();

    assert!(matches!(error, HookError::Run { .. }), "{error}");
    assert!(line(&error).contains("/nonexistent/hook: No such file"), "{}", line(&error));
}

#[test]
fn hooks_that_cannot_be_run_are_refused_by_name() {
    let check = |it: Value| hooks(it).1.check().unwrap_err();
    assert!(matches!(
        check(json!({"startContainer": [{"path": "/bin/true"}]})),
        HookError::InContainer { .. }
    ));
    assert!(matches!(
        check(json!({"poststop": [{"path": "bin/true"}]})),
        HookError::Relative { kind: Kind::Poststop, .. }
    ));
    assert!(matches!(
        check(json!({"prestart": [{"path": "/bin/true", "timeout": 0}]})),
        HookError::Timeout { kind: Kind::Prestart, seconds: 0, .. }
    ));
}

#[test]
fn a_specification_without_hooks_has_none() {
    for hooks in [json!({}), json!(null)] {
        let spec = json!({"ociVersion": "1.1.0", "hooks": hooks});
        let spec: Spec = serde_json::from_value(spec).unwrap();
        assert_eq!(Hooks::of(&spec, Path::new("/b"), "c"), None);
    }
}
