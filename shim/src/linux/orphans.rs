//! Processes that come to the shim because their parent has died, and that nobody waits for.
//!
//! Rule: the first process of a pid namespace stays until those of the others that have ended are waited for
//! (pid_namespaces(7)). An OCI runtime that was killed leaves such ones to the shim, which is the next
//! above it. Whom the shim knows it waits for as soon as they have ended: who is still there after
//! several looks is nobody's.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Once;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Pause between two looks: whoever waits for a process comes to it in between.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a process is seen to have ended before it is nobody's.
const LOOKS: u32 = 3;

/// Has them waited for from here on, as long as the runtime lives. Needs a tokio runtime.
pub(super) fn reap() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(tokio::spawn(reap_always())));
}

async fn reap_always() {
    let mut children = match signal(SignalKind::child()) {
        Ok(children) => children,
        Err(error) => return log::warn!("processes of others are not waited for: {error}"),
    };
    while children.recv().await.is_some() {
        while !ended().is_empty() {
            reap_once().await;
        }
    }
}

async fn reap_once() {
    let mut nobodys = ended();
    for _ in 1..LOOKS {
        tokio::time::sleep(PAUSE).await;
        nobodys = nobodys.intersection(&ended()).copied().collect();
    }
    for pid in nobodys.into_iter().filter_map(Pid::from_raw) {
        // One that somebody waits for meanwhile is as good.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// Children of this process that have ended and are not waited for (proc_pid_task(5), proc_pid_stat(5)).
fn ended() -> BTreeSet<i32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids: Vec<i32> =
        lists.flat_map(|list| numbers(&list)).filter(|pid| has_ended(*pid)).collect();
    pids.into_iter().collect()
}

fn numbers(list: &str) -> Vec<i32> {
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state may hold spaces and parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}
