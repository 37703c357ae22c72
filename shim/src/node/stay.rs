//! A pod on duty: it installs or uninstalls, tells the cluster, and looks again from time to time.
//!
//! Rule: what keeps one node from being ready is that node's condition, never the end of the process: a pod
//! that fails over and over says nothing that a condition does not, and holds up the others. It leaves by
//! SIGTERM, with the node as it is: a pod that is replaced by its next version must not take the runtime away
//! from those that run.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::{Cluster, Node, NodeError, metrics};
use crate::error::line;

/// How soon to try again what will work when others have done something.
const SOON: Duration = Duration::from_secs(10);

/// What is to be done on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Install, and keep it installed.
    Install,
    /// Uninstall, also under running tasks if forced, and wait for the end.
    Uninstall {
        /// Whether running tasks are no reason to wait.
        force: bool,
    },
}

/// How a pod stays.
#[derive(Clone, Debug)]
pub struct Stay {
    /// What it does.
    pub duty: Duty,
    /// The node's name in the cluster; `None` tells no cluster.
    pub node: Option<String>,
    /// How often it looks whether everything is as it should be.
    pub interval: Duration,
    /// The port that it listens on once it has come to an end, for the pod's readiness.
    pub ready_port: Option<u16>,
    /// The port of its metrics.
    pub metrics_port: Option<u16>,
}

/// Stays until SIGTERM or SIGINT. `say` is told each outcome that differs from the one before.
///
/// # Errors
///
/// The process cannot wait for signals, or listen.
pub async fn stay(
    node: Node,
    cluster: Option<Cluster>,
    stay: Stay,
    say: &mut dyn FnMut(&str),
) -> Result<(), NodeError> {
    let watch = |kind| {
        signal(kind).map_err(|source| NodeError::Duty { action: "wait for signals", source })
    };
    let (mut term, mut int) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    let cluster = cluster.as_ref().zip(stay.node.as_deref());
    let metrics = Arc::new(node.metrics());
    if let Some(port) = stay.metrics_port {
        let action = "serve metrics on the port of --metrics-port";
        let served = async { metrics::serve(listen(port).await?, Arc::clone(&metrics)) };
        served.await.map_err(|source| NodeError::Duty { action, source })?;
    }
    let mut said = String::new();
    let mut listener = None;
    let mut is_final = None;
    loop {
        // A restart in vain is not repeated; the next version of this pod may try.
        let outcome = match is_final.take() {
            Some(error) => Err(error),
            None => {
                let outcome = perform(&node, stay.duty, cluster).await;
                metrics.looked(outcome.as_ref().ok().copied().flatten());
                outcome.map(drop)
            }
        };
        let (text, mut is_done) = told(stay.duty, &outcome);
        if text != said {
            say(&text);
            said = text;
        }
        let mut again = match (&outcome, stay.duty) {
            (Err(error), _) if error.is_final() => stay.interval,
            (Err(NodeError::NoKvm), _) | (Ok(()), _) => stay.interval,
            (Err(_), _) => SOON.min(stay.interval),
        };
        if let Some(cluster) = cluster
            && let Err(error) = report(cluster, stay.duty, &outcome, &said).await
        {
            say(&format!("tell the cluster: {}", line(&error)));
            is_done = false;
            again = SOON.min(again);
        }
        if is_done
            && listener.is_none()
            && let Some(port) = stay.ready_port
        {
            // Nobody accepts: that it listens is the answer.
            let action = "listen on the port of --ready-port";
            let bound = listen(port).await;
            listener = Some(bound.map_err(|source| NodeError::Duty { action, source })?);
        }
        is_final = outcome.err().filter(NodeError::is_final);
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            () = sleep(again) => {}
        }
    }
}

/// Listens on each address of the pod; the second is for nodes without IPv6.
async fn listen(port: u16) -> std::io::Result<TcpListener> {
    let addrs: [SocketAddr; 2] =
        [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()];
    TcpListener::bind(&addrs[..]).await
}

/// Does the duty; returns how long the micro-VM on trial took, where one has run.
async fn perform(
    node: &Node,
    duty: Duty,
    cluster: Option<(&Cluster, &str)>,
) -> Result<Option<Duration>, NodeError> {
    match duty {
        Duty::Install => Ok(Some(node.install().await?.trial)),
        Duty::Uninstall { force } => {
            // Before: so that no pod comes to the node meanwhile.
            if let Some((cluster, name)) = cluster {
                let message = "the runtime is being uninstalled";
                cluster.tell(name, false, "Uninstalling", message).await?;
            }
            node.uninstall(force).await.map(|_| None)
        }
    }
}

/// What is said of an outcome, and whether it is one that the pod can be ready with: installing also with a
/// reason why it cannot be, uninstalling only when it is done.
fn told(duty: Duty, outcome: &Result<(), NodeError>) -> (String, bool) {
    match (outcome, duty) {
        (Ok(()), Duty::Install) => (
            "installed: a micro-VM has run on trial, and containerd has the runtime".to_owned(),
            true,
        ),
        (Ok(()), Duty::Uninstall { .. }) => {
            ("uninstalled: the node is as it was found".to_owned(), true)
        }
        (Err(error), duty) => {
            (format!("{}: {}", error.reason(), line(error)), duty == Duty::Install)
        }
    }
}

async fn report(
    (cluster, name): (&Cluster, &str),
    duty: Duty,
    outcome: &Result<(), NodeError>,
    said: &str,
) -> Result<(), NodeError> {
    match (outcome, duty) {
        (Ok(()), Duty::Install) => cluster.tell(name, true, "Installed", said).await?,
        (Ok(()), Duty::Uninstall { .. }) => cluster.forget(name).await?,
        (Err(error), _) => cluster.tell(name, false, error.reason(), &line(error)).await?,
    }
    Ok(())
}

/// Has the pods of the DaemonSet `name` uninstall, and waits until all have.
///
/// # Errors
///
/// The API server refuses, or some have not after `limit`.
pub async fn uninstall_everywhere(
    cluster: &Cluster,
    name: &str,
    limit: Duration,
) -> Result<u64, NodeError> {
    let namespace = cluster.namespace()?;
    cluster.have_uninstall(&namespace, name).await?;
    let since = std::time::Instant::now();
    loop {
        let (done, nodes) = cluster.rolled_out(&namespace, name).await?;
        if done >= nodes {
            return Ok(done);
        }
        if since.elapsed() > limit {
            return Err(NodeError::Others { done, nodes });
        }
        sleep(Duration::from_secs(1)).await;
    }
}
