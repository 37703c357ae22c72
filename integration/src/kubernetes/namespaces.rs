//! The network and the mounts of a cluster: what its programs see of the machine, and what the machine sees
//! of them, which is nothing.
//!
//! A holder process keeps a network namespace and a mount namespace. In it the paths of an ordinary node
//! are the run's own: `/run` and the state below `/var` are empty directories, `/etc`, `/opt` and `/usr/local`
//! are the machine's with a layer of the run's over them. All of it goes with the last process that is inside.
//! The kernel's tunables that a kubelet sets are files of the run there, so that the machine keeps its own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process;

/// Names the run in the environment of every process of a cluster, and of those that it starts.
pub(crate) const RUN: &str = "HYPERLIGHT_TEST_RUN";

/// The node's address, from the block for tests between networks (RFC 2544, section C.2.2).
pub(crate) const ADDRESS: &str = "198.18.0.1";

/// The machine's directories that have a layer of the run's over them.
const LAYERED: [&str; 3] = ["/etc", "/opt", "/usr/local"];

/// Directories that are the run's alone.
const OWN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// What a kubelet wants the kernel's tunables to be (k8s.io/component-helpers, node/util/sysctl).
const TUNABLES: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// A network and a mount namespace; they go when this does and nothing runs in them any more.
#[derive(Debug)]
pub(crate) struct Namespaces {
    run: String,
    holder: Child,
    network: File,
    outside: File,
}

impl Namespaces {
    /// Makes them for the run `run`, with what is written there below `directory`.
    ///
    /// # Errors
    ///
    /// A step fails; the error has what the command said.
    pub(crate) fn start(run: &str, directory: &Path) -> Result<Self> {
        // It ends with its standard input, and so with this process, however that ends.
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--"])
            .args(["sh", "-c", "echo ready; read -r _", run])
            .env(RUN, run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start unshare")?;
        let mut line = String::new();
        let output = holder.stdout.take().context("no standard output")?;
        BufReader::new(output).read_line(&mut line).context("read what the holder says")?;
        let network = File::open(format!("/proc/{}/ns/net", holder.id()));
        let network = network.context("open the network namespace")?;
        let outside = File::open("/proc/thread-self/ns/net").context("open our own network")?;
        let namespaces = Self { run: run.to_owned(), holder, network, outside };
        ensure!(line == "ready\n", "unshare made no namespaces");
        namespaces.mount(directory)?;
        namespaces.connect()?;
        Ok(namespaces)
    }

    /// A command that runs inside.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount", "--"]);
        command.arg(program.as_ref()).env(RUN, &self.run);
        command
    }

    /// Runs a program of the system inside, to its end; returns what it printed.
    ///
    /// # Errors
    ///
    /// It fails.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let outcome = process::run(self.command(program).args(arguments))?;
        outcome.success().with_context(|| format!("{program} {}", arguments.join(" ")))
    }

    /// Moves the calling thread into the network, and all that it starts from then on.
    ///
    /// # Errors
    ///
    /// The kernel does not let it.
    pub(crate) fn enter_network(&self) -> Result<()> {
        enter(&self.network).context("setns into the cluster's network")
    }

    /// Does what needs the network that there was before, as what brings a compiler.
    ///
    /// # Errors
    ///
    /// The kernel does not let a thread back, or what it does fails.
    pub(crate) fn outside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&self.outside).context("setns into the network outside")?;
                work()
            });
            thread.join().map_err(|_| anyhow!("a thread outside has panicked"))?
        })
    }

    /// What is mounted inside.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let file = format!("/proc/{}/mountinfo", self.holder.id());
        let text = fs::read_to_string(file).unwrap_or_default();
        // Field 5 of proc_pid_mountinfo(5).
        text.lines().filter_map(|line| Some(line.split(' ').nth(4)?.into())).collect()
    }

    fn mount(&self, directory: &Path) -> Result<()> {
        // A pod may ask that mounts reach it, or come from it: among the namespaces made from this one.
        self.run("mount", &["--make-rshared", "/"])?;
        for place in LAYERED {
            let [upper, work] = ["upper", "work"].map(|it| layer(directory, place).join(it));
            for it in [&upper, &work] {
                fs::create_dir_all(it).with_context(|| format!("create {}", it.display()))?;
            }
            let (upper, work) = (upper.display(), work.display());
            let options = format!("lowerdir={place},upperdir={upper},workdir={work}");
            self.run("mount", &["-t", "overlay", "overlay", "-o", &options, place])?;
        }
        for place in OWN {
            let own = layer(directory, place);
            fs::create_dir_all(&own).with_context(|| format!("create {}", own.display()))?;
            self.run("mount", &["--bind", &own.display().to_string(), place])?;
        }
        for (name, value) in TUNABLES {
            let file = layer(directory, "/sysctl").join(name.replace('/', "."));
            fs::create_dir_all(layer(directory, "/sysctl")).context("create sysctl")?;
            fs::write(&file, value).with_context(|| format!("write {}", file.display()))?;
            let place = format!("/proc/sys/{name}");
            self.run("mount", &["--bind", &file.display().to_string(), &place])?;
        }
        Ok(())
    }

    /// The node's address on a link that leads nowhere, so that a service's address has a route.
    fn connect(&self) -> Result<()> {
        for line in [
            "link set lo up",
            "link add node0 type veth peer name uplink0",
            "link set node0 up",
            "link set uplink0 up",
            &format!("address add {ADDRESS}/24 dev node0"),
            "route add default via 198.18.0.254 dev node0",
        ] {
            self.run("ip", &line.split(' ').collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

fn enter(network: &File) -> rustix::io::Result<()> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
}

/// Where the run keeps what is written to `place` inside.
pub(crate) fn layer(directory: &Path, place: &str) -> PathBuf {
    directory.join("node").join(place.trim_start_matches('/').replace('/', "-"))
}
