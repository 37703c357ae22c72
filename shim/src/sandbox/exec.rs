//! Processes beside a container's own: a command of the container's files, in a micro-VM of its own.
//!
//! Rule: an exec lives where the container's own process lives (control group, namespaces, files) and is
//! started only if all of that is there. Starting runs to its end even if containerd stops waiting. One that
//! cannot be started has ended: 127 if there is no such file, 126 if it is nothing that runs here.
//!
//! Its micro-VM has as much memory as the container's; the limit of the control group counts them together.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::Sandbox;
use super::program::{Given, compile};
use crate::aot::CompiledProgram;
use crate::artifact::{self, ArtifactError};
use crate::bundle::{Bundle, Namespace};
use crate::compile::Entry as ProgramEntry;
use crate::container::{Container, Exec};
use crate::error::Error;
use crate::launch::{Confinement, Idle, LaunchError, Launched, ProcessEnd, Work, adjust_oom_score};
use crate::microvm::{STATUS_CANNOT_RUN, STATUS_ERROR, STATUS_NOT_FOUND};
use crate::state::Exit;
use crate::stdio::{self, HeldStdio, Owner, StdioPaths};

/// A request to add an exec.
#[derive(Clone, Debug)]
pub struct AddExec {
    /// Its name.
    pub id: String,
    /// What it is to run.
    pub spec: oci_spec::runtime::Process,
    /// Its streams.
    pub stdio: StdioPaths,
}

impl Sandbox {
    /// Adds an exec to task `id`, to be started.
    ///
    /// # Errors
    ///
    /// There is no task of that name or it does not run, or the name of the exec is taken.
    pub fn add_exec(&self, id: &str, request: AddExec) -> Result<(), Error> {
        let container = self.task(id)?;
        let AddExec { id, spec, stdio } = request;
        container.add_exec(id.clone(), spec, stdio)?;
        self.events.exec_added(&container, &id);
        Ok(())
    }

    /// Starts exec `exec` of task `id` and returns its process id.
    ///
    /// # Errors
    ///
    /// There is none, it has been started before, or it cannot be.
    pub async fn start_exec(&self, id: &str, exec: &str) -> Result<u32, Error> {
        let container = self.task(id)?;
        let exec = container.exec(exec)?;
        container.may_exec()?;
        exec.begin()?;
        let sandbox = self.clone();
        let (send, receive) = oneshot::channel();
        tokio::spawn(async move {
            let started = sandbox.launch_exec(&container, &exec).await;
            if let Err(error) = &started {
                let status = status(error);
                exec.process.end(Exit { status: status.into(), at: SystemTime::now() });
            }
            // containerd may wait no longer.
            let _ = send.send(started);
        });
        receive.await.unwrap_or_else(|_| Err(Error::CutOff(id.to_owned())))
    }

    /// Removes an exec that has ended or was never started.
    ///
    /// # Errors
    ///
    /// There is none of that name, or it runs.
    pub async fn delete_exec(&self, id: &str, exec: &str) -> Result<(Arc<Exec>, Exit), Error> {
        let container = self.task(id)?;
        let (exec, exit) = container.remove_exec(exec)?;
        if let Some(stdio) = exec.process.take_stdio() {
            stdio.finish().await;
        }
        // One without an exit has not run, and has no status.
        Ok((exec, exit.unwrap_or(Exit { status: 0, at: SystemTime::now() })))
    }

    async fn launch_exec(
        &self,
        container: &Arc<Container>,
        exec: &Arc<Exec>,
    ) -> Result<u32, Error> {
        let namespace = &self.environment.namespace;
        if let Some(linux) = container.linux() {
            let owner = Owner { namespace, id: &exec.id, in_pod: true };
            let (stdio, held) = stdio::open(exec.process.stdio(), owner, None).await?;
            let launched = linux.exec(&exec.id, &exec.spec, stdio).await?;
            return self.adopt_exec(container, exec, launched, held).await;
        }
        let mut bundle = Bundle::read(container.bundle(), namespace, container.id())?;
        bundle.memory_limit = container.memory_limit(bundle.memory_limit);
        let bundle = bundle.of_exec(&exec.spec)?;
        let (program, given, name) = self.command(&bundle, container).await?;
        self.totals().add_exec(given.origins(&program));
        let Given { image, snapshot, .. } = given;
        let workload = bundle.workload(program.bytes, &name, false)?;
        let owner = Owner { namespace, id: &exec.id, in_pod: bundle.in_pod };
        let (stdio, held) = stdio::open(exec.process.stdio(), owner, bundle.window).await?;
        // Named by the container's own process, which is looked for afterwards: if it lives, they were its
        // namespaces.
        let confinement = bundle.confinement.shared_with(container.pid());
        let of_container = confinement.namespaces.pid.clone().unwrap_or(Namespace::New);
        let mut idle = self.environment.vmm.spawn_in(&of_container)?;
        if let Err(error) = place(container, confinement, &bundle, &mut idle).await {
            idle.end().await;
            return Err(error.into());
        }
        let vmm =
            idle.run(Work { workload, program: program.file, snapshot, image, stdio }).await?;
        self.adopt_exec(container, exec, vmm, held).await
    }

    /// The compiled program of an exec, from the node's cache or compiled, and what it is called.
    async fn command(
        &self,
        bundle: &Bundle,
        container: &Container,
    ) -> Result<(CompiledProgram, Given, String), Error> {
        let (environment, bundle, pid) =
            (Arc::clone(&self.environment), bundle.clone(), container.pid());
        let ready = tokio::task::spawn_blocking(move || {
            let wasm = artifact::command(&bundle, pid)?;
            let name = wasm.name().to_owned();
            let program = compile(&environment.cache, &wasm, ProgramEntry::Command)
                .map_err(|source| Error::Compile { name: name.clone(), source })?;
            let given = Given::new(&environment, &program).map_err(Error::Descriptor)?;
            Ok((program, given, name))
        });
        ready.await.unwrap_or_else(|_panicked| Err(Error::CutOff(container.id().to_owned())))
    }

    /// Starts the program of a VMM process that is ready, watches and announces it; or ends it, if it is no
    /// longer wanted.
    async fn adopt_exec(
        &self,
        container: &Arc<Container>,
        exec: &Arc<Exec>,
        launched: Launched,
        held: HeldStdio,
    ) -> Result<u32, Error> {
        let Launched { pid, pidfd, start, mut end, cost: _ } = launched;
        if !container.keeps(exec) {
            // The container has ended, or the exec was deleted. What is not started ends by itself.
            drop(start);
            let _ = end.wait().await;
            container.may_exec()?;
            return Err(container
                .exec(&exec.id)
                .err()
                .map_or_else(|| Error::NoTask(container.id().to_owned()), Error::Container));
        }
        exec.process.launched(pid, pidfd, start, held);
        let started = exec.process.start();
        if started.is_ok() {
            self.events.exec_started(container, &exec.id, pid);
        }
        // Its end is noticed whether its start was or not.
        tokio::spawn(watch(self.clone(), Arc::clone(container), Arc::clone(exec), end));
        started?;
        Ok(pid)
    }
}

/// Sends a VMM process to where the container's own lives.
async fn place(
    container: &Container,
    confinement: Confinement,
    bundle: &Bundle,
    idle: &mut Idle,
) -> Result<(), LaunchError> {
    // First, while it sees the host's files: the control group's are not among those of the container.
    idle.join(container.cgroup().join_files()).await?;
    idle.confine(confinement).await?;
    adjust_oom_score(idle.pid(), bundle.oom_score_adj);
    Ok(())
}

/// The exit status of an exec that cannot be started, as a shell has it.
fn status(error: &Error) -> u8 {
    match error {
        Error::Artifact(ArtifactError::NoCommand { file, .. }) if *file == artifact::NOT_THERE => {
            STATUS_NOT_FOUND
        }
        Error::Artifact(_) | Error::Compile { .. } | Error::Bundle(_) => STATUS_CANNOT_RUN,
        _ours => STATUS_ERROR,
    }
}

/// Waits for the end of an exec's process and announces it.
async fn watch(sandbox: Sandbox, container: Arc<Container>, exec: Arc<Exec>, mut end: ProcessEnd) {
    let events = &sandbox.events;
    let status = end.wait().await;
    if container.ran_out_of_memory() {
        events.ran_out_of_memory(&container);
    }
    exec.process.ended(status, |exit| {
        sandbox.totals().add_end(container.id(), &exec.id, exit.status, end.counts());
        events.exec_exited(&container, &exec.id, exec.process.pid(), exit);
    });
}
