//! `hyperlight node`: the shim on a node with containerd.

use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{CliError, parse};
use crate::http::Isolation;
use crate::node::{
    self, Cluster, Distribution, Duty, Node as Host, NodeError, Restart, Sandboxer, Stay,
};
use crate::settings::Settings;

const INSTALL_EXAMPLES: &str = "\
Examples:
  hyperlight node install
  hyperlight node install --restart-command 'rc-service containerd restart'
  hyperlight node install --host-root /host --node \"$NODE_NAME\" --stay";

const UNINSTALL_EXAMPLES: &str = "\
Examples:
  hyperlight node uninstall
  hyperlight node uninstall --force";

const CHECK_EXAMPLES: &str = "\
Examples:
  hyperlight node check";

/// What `node` is told.
#[derive(Debug, Args)]
pub(super) struct Node {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install the shim on this node, add it to containerd, and run a micro-VM on trial
    ///
    /// Changes nothing on a node without /dev/kvm, or with a containerd before 2.0. What containerd rejects is
    /// put back. A second run changes nothing; containerd is restarted only if its configuration
    /// was changed.
    #[command(after_help = INSTALL_EXAMPLES)]
    Install(Install),
    /// Put the node back as it was found
    ///
    /// Refuses while tasks of the runtime run.
    #[command(after_help = UNINSTALL_EXAMPLES)]
    Uninstall(Uninstall),
    /// Tell whether the shim is installed and works, by a micro-VM on trial
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Options),
}

/// Where things are.
#[derive(Debug, Args)]
struct Options {
    /// The node's root directory, which becomes that of this process
    #[arg(long, value_name = "DIR", default_value = "/")]
    host_root: PathBuf,
    /// Where the programs come from [default: where this one is]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Where the programs go: below DIR/bin, with a record of what was changed in DIR
    #[arg(long, value_name = "DIR", default_value = "/opt/hyperlight")]
    prefix: PathBuf,
    /// Whose containerd it is [default: the one that is found]
    #[arg(long, value_name = "NAME", value_parser = Distribution::names())]
    distribution: Option<String>,
    /// containerd's configuration, if not where the distribution has it
    #[arg(long, value_name = "FILE")]
    containerd_config: Option<PathBuf>,
    /// The file for this runtime, if not where the distribution has such
    #[arg(long, value_name = "FILE")]
    drop_in: Option<PathBuf>,
    /// containerd's program, if not where the distribution has it
    #[arg(long, value_name = "FILE")]
    containerd: Option<PathBuf>,
    /// containerd's socket, if not where the distribution has it
    #[arg(long, value_name = "SOCKET")]
    containerd_socket: Option<PathBuf>,
    /// Let the cache of compiled programs take this much of the disk [default: 4GiB or a tenth of the file system,
    /// whichever is less]
    #[arg(long, value_name = "SIZE", value_parser = parse::bytes)]
    cache_size: Option<u64>,
    /// Let one compilation take this much memory [default: 8GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse::aot_memory)]
    aot_memory: Option<NonZero<u64>>,
    /// Let one compilation take this much CPU time, within twice that by the clock [default: 900]
    #[arg(long, value_name = "SECONDS")]
    aot_cpu_seconds: Option<NonZero<u64>>,
    /// Compile so many programs at once, while others wait [default: as many as there are CPUs]
    #[arg(long, value_name = "NUMBER")]
    aot_parallel: Option<NonZero<usize>>,
    /// What a request leaves to the next where a pod does not say [default: request]
    #[arg(long, value_enum, value_name = "WHAT")]
    http_isolation: Option<Isolation>,
    /// Who makes pods
    #[arg(long, value_enum, value_name = "WHO", default_value_t)]
    sandboxer: Sandboxer,
    /// Restart containerd by this command of the node's shell [default: by systemctl, the distribution's unit]
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_restart")]
    restart_command: Option<String>,
    /// Leave the restart of containerd to others, and say when it is due
    #[arg(long)]
    no_restart: bool,
    /// How long containerd may take to serve after its restart, before its configuration is put back
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = parse::duration)]
    serves_within: Duration,
}

/// How to stay as a pod of a DaemonSet.
#[derive(Debug, Args)]
struct Duties {
    /// Tell the cluster of this node, by a label and a condition, with the account of the pod
    #[arg(long, value_name = "NODE", requires = "stay")]
    node: Option<String>,
    /// Stay until SIGTERM, and look every now and then whether everything is as it should be
    #[arg(long)]
    stay: bool,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse::duration, requires = "stay")]
    interval: Duration,
    /// Listen on this port once there is an outcome, for a readiness probe
    #[arg(long, value_name = "PORT", requires = "stay")]
    ready_port: Option<u16>,
    /// Serve metrics for Prometheus on this port, at /metrics
    #[arg(long, value_name = "PORT", requires = "stay")]
    metrics_port: Option<u16>,
}

#[derive(Debug, Args)]
struct Install {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    duties: Duties,
}

#[derive(Debug, Args)]
struct Uninstall {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    duties: Duties,
    /// Also while tasks of the runtime run, which then cannot be cleaned up well
    #[arg(long)]
    force: bool,
    /// Have the pods of this DaemonSet, in the namespace of this pod, do it on all nodes, and wait for them
    #[arg(long, value_name = "DAEMONSET", conflicts_with_all = ["node", "stay"])]
    everywhere: Option<String>,
    /// How long to wait for them
    #[arg(long, value_name = "TIME", default_value = "4m", value_parser = parse::duration)]
    timeout: Duration,
}

impl Node {
    /// Does it and prints what came of it.
    pub(super) fn execute(self) -> Result<(), CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(NodeError::Runtime)?.block_on(async {
            match self.command {
                Command::Install(install) if install.duties.stay => {
                    stay(install.options, install.duties, Duty::Install).await
                }
                Command::Install(install) => install.once().await,
                Command::Uninstall(Uninstall { everywhere: Some(name), timeout, .. }) => {
                    let cluster = Cluster::of_pod().map_err(NodeError::from)?;
                    let nodes = node::uninstall_everywhere(&cluster, &name, timeout).await?;
                    say(&format!("uninstalled on {nodes} nodes"))
                }
                Command::Uninstall(Uninstall { options, duties, force, .. }) if duties.stay => {
                    stay(options, duties, Duty::Uninstall { force }).await
                }
                Command::Uninstall(uninstall) => uninstall.once().await,
                Command::Check(options) => {
                    let mut told = Ok(());
                    let host = options.enter()?;
                    host.check(&mut |text| told = say(text)).await?;
                    told
                }
            }
        })
    }
}

impl Options {
    fn enter(self) -> Result<Host, CliError> {
        let from = match self.from {
            Some(from) => from,
            None => std::env::current_exe()
                .map_err(|source| NodeError::Duty { action: "find this program", source })?
                .parent()
                .unwrap_or(Path::new("/"))
                .to_owned(),
        };
        let restart = match (self.restart_command, self.no_restart) {
            (_, true) => Restart::ByOthers,
            (Some(command), false) => Restart::Command(command),
            (None, false) => Restart::Unit,
        };
        Ok(Host::enter(node::Options {
            host_root: self.host_root,
            from,
            prefix: self.prefix,
            distribution: self.distribution.as_deref().and_then(Distribution::named),
            config: self.containerd_config,
            drop_in: self.drop_in,
            containerd: self.containerd,
            socket: self.containerd_socket,
            sandboxer: self.sandboxer,
            settings: Settings {
                cache_bytes: self.cache_size,
                aot_memory_bytes: self.aot_memory,
                aot_cpu_seconds: self.aot_cpu_seconds,
                aot_parallel: self.aot_parallel,
                http_isolation: self.http_isolation,
            },
            restart,
            serves_within: self.serves_within,
        })?)
    }
}

impl Install {
    async fn once(self) -> Result<(), CliError> {
        let host = self.options.enter()?;
        let done = host.install().await?;
        let name = host.distribution().name;
        say(match (done.programs || done.settings || done.config, done.restarted) {
            (false, false) => "installed already, nothing was changed; a micro-VM has run on trial",
            (_, false) => "installed; a micro-VM has run on trial; containerd needed no restart",
            (_, true) => "installed; a micro-VM has run on trial; containerd was restarted",
        })?;
        say(&format!("containerd ({name}) has the runtime handler {}", node::HANDLER))
    }
}

impl Uninstall {
    async fn once(self) -> Result<(), CliError> {
        say(match self.options.enter()?.uninstall(self.force).await? {
            true => "uninstalled: the node is as it was found",
            false => "nothing is installed",
        })
    }
}

async fn stay(options: Options, duties: Duties, duty: Duty) -> Result<(), CliError> {
    // Before the root directory changes.
    let cluster = duties.node.is_some().then(Cluster::of_pod).transpose();
    let cluster = cluster.map_err(NodeError::from)?;
    let Duties { node, interval, ready_port, metrics_port, .. } = duties;
    let host = options.enter()?;
    let mut said = Ok(());
    let stay = Stay { duty, node, interval, ready_port, metrics_port };
    // A reader that is gone is no reason to leave a node.
    node::stay(host, cluster, stay, &mut |text| said = say(text)).await?;
    said
}

fn say(text: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}
