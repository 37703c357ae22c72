//! What a guest could do that has taken over its VMM process: nothing.
//!
//! Each test has a process go through the jail of a task as the shim would have it, up to the start of the
//! program (`examples/taken_over.rs`), and then try one thing. The threat model (`docs/threat-model.md`)
//! names these tests.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

mod files;
mod outside;
mod syscalls;
mod workers;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use shim::bundle::{Namespace, Namespaces};
use shim::compile::{Entry, Withheld, compile};
use shim::jail::{Mount, Root};
use shim::launch::{Confinement, Idle, LaunchError, Launched, Program, View, Work};
use shim::stdio::TaskStdio;
use shim::workload::Workload;
use tempfile::TempDir;

/// No step of these tests takes this long; a hang ends here.
const HANG: Duration = Duration::from_secs(120);

/// Whether there is KVM, which a run may require; says that there is none.
fn has_kvm() -> bool {
    let is_required = std::env::var_os("REQUIRE_KVM").is_some_and(|value| value == "1");
    let is_there = Path::new("/dev/kvm").exists();
    if !is_there {
        assert!(!is_required, "no /dev/kvm");
        println!("skipped: no /dev/kvm");
    }
    is_there
}

/// Whether the test can be done here; says why not.
fn can_run() -> bool {
    if !has_kvm() {
        return false;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return false;
    }
    true
}

/// A container, and what is tried in it.
struct Attempt {
    rootfs: TempDir,
    confinement: Confinement,
    network: bool,
}

/// How an attempt ended.
#[derive(Debug)]
struct Ended {
    status: ExitStatus,
    said: String,
}

impl Attempt {
    /// A container of root's, with one file, `own`, and namespaces as containerd asks for them.
    fn new() -> Self {
        let rootfs = TempDir::new().unwrap();
        fs::write(rootfs.path().join("own"), "own").unwrap();
        let new = || Some(Namespace::New);
        let namespaces = Namespaces { network: new(), ipc: new(), uts: new(), pid: new() };
        let view = View::Root(Root { path: rootfs.path().to_owned(), ..Root::default() });
        let confinement = Confinement { namespaces, view, ..Confinement::default() };
        Self { rootfs, confinement, network: true }
    }

    fn without_network(self) -> Self {
        Self { network: false, ..self }
    }

    /// As this user and group.
    fn user(mut self, id: u32) -> Self {
        (self.confinement.user.uid, self.confinement.user.gid) = (id, id);
        self
    }

    fn mount(mut self, mount: Mount) -> Self {
        let View::Root(root) = &mut self.confinement.view else { unreachable!() };
        root.mounts.push(mount);
        self
    }

    /// A path of the host in the root file system.
    fn path(&self, name: &str) -> PathBuf {
        self.rootfs.path().join(name)
    }

    /// A process that is ready to do it, and its standard output.
    async fn ready(&self, words: &[&str]) -> Result<(Launched, File), LaunchError> {
        let mut idle = spawn(words);
        idle.confine(self.confinement.clone()).await.unwrap();
        // A process of another test must not keep it open.
        let (output, stdout) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap().into();
        let stdio = TaskStdio { stdin: null(), stdout, stderr: null() };
        let vmm = idle.run(work(stdio, self.network)).await?;
        Ok((vmm, output.into()))
    }

    /// What comes of it.
    async fn ends(&self, words: &[&str]) -> Ended {
        let (vmm, mut output) = self.ready(words).await.unwrap();
        let Launched { start, mut end, .. } = vmm;
        start.start().unwrap();
        let status = tokio::time::timeout(HANG, end.wait()).await.unwrap().unwrap();
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        Ended { status, said: said.trim_end().to_owned() }
    }
}

impl Ended {
    /// It was allowed, and said this.
    fn said(&self, expected: &str) {
        assert_eq!((self.status.code(), self.said.as_str()), (Some(0), expected), "{self:?}");
    }

    /// The kernel refused it, for this reason.
    fn refused(&self, reason: &str) {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        assert!(self.said.starts_with(reason), "{self:?}");
    }

    /// The list of system calls ended the process.
    fn killed(&self) {
        assert_eq!(self.status.signal(), Some(rustix::process::Signal::SYS.as_raw()), "{self:?}");
    }
}

/// The program that stands for a process that was taken over.
fn taken_over() -> PathBuf {
    let examples = PathBuf::from(env!("CARGO_BIN_EXE_hyperlight")).with_file_name("examples");
    examples.join("taken_over")
}

fn spawn(words: &[&str]) -> Idle {
    let args = words.iter().map(|word| (*word).to_owned()).collect();
    Program { file: taken_over(), args }.spawn_in(&Namespace::New).unwrap()
}

/// A command that does nothing.
fn work(stdio: TaskStdio, network: bool) -> Work {
    let text = r#"(component
        (core module $m (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $cli (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $cli)))"#;
    let compiled =
        compile(&wat::parse_str(text).unwrap(), Entry::Command, Withheld::default()).unwrap();
    let mut program = tempfile::tempfile().unwrap();
    program.write_all(&compiled.program).unwrap();
    let grant = serde_json::json!({"allow": null, "root": "/"});
    let workload: Workload = serde_json::from_value(serde_json::json!({
        "program_name": "app.wasm", "args": ["app.wasm"], "env": [], "memory": 64 << 20,
        "preopens": [{"host_path": "/", "guest_path": "/", "read_only": false}],
        "network": network.then_some(grant),
    }))
    .unwrap();
    let empty = || tempfile::tempfile().unwrap();
    Work { workload, program, snapshot: empty(), image: empty(), stdio }
}
