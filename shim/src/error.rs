//! The shim's errors, and what containerd is told.
//!
//! One function, `code`, maps every error to a ttrpc status, without a catch-all, so that a new
//! error is classified when it is written. What Create refuses is never UNIMPLEMENTED: containerd
//! 2.1 takes that for a shim of an older protocol, asks again by its name, and reports the failure
//! of that instead. One function, [`line()`], turns an error and its sources into the single line
//! that `ctr` and `kubectl describe` show.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use containerd_shim_protos::ttrpc::{self, Code};

use crate::artifact::ArtifactError;
use crate::bundle::BundleError;
use crate::cgroup::CgroupError;
use crate::compile::CompileError;
use crate::container::ContainerError;
use crate::containerd::ContainerdError;
use crate::holder::HolderError;
use crate::hooks::HookError;
use crate::launch::LaunchError;
use crate::linux::LinuxError;
use crate::pod_files::PodFilesError;
use crate::rootfs::RootfsError;
use crate::state::Refusal;
use crate::stdio::StdioError;

/// What can go wrong while serving containerd.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is a task of that name.
    #[error("task {0} exists already")]
    Exists(String),
    /// There is no task of that name.
    #[error("no task {0}")]
    NoTask(String),
    /// The task is being created or deleted.
    #[error("task {0} is being created or deleted: try again")]
    Busy(String),
    /// Its shim's last task is gone.
    #[error("task {0}: this shim is ending, as its last task is gone: start another")]
    Ending(String),
    /// A request that this runtime does not implement.
    #[error("{0} is not supported by the hyperlight runtime")]
    Unsupported(&'static str),
    /// A task to be restored.
    #[error("restoring a task from a checkpoint is not supported by the hyperlight runtime")]
    Checkpoint,
    /// The work was cut off by a panic.
    #[error("task {0}: the shim failed; see containerd's log")]
    CutOff(String),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The streams.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The files of a pod could not be made, or given to a container.
    #[error(transparent)]
    PodFiles(#[from] PodFilesError),
    /// The root file system.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// containerd itself.
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
    /// The wasm.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The compiler.
    #[error("compile {name}")]
    Compile {
        /// The program.
        name: String,
        /// Why not.
        source: CompileError,
    },
    /// The control group.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The descriptors for the VMM process could not be made.
    #[error("make the descriptors for the VMM process")]
    Descriptor(#[source] io::Error),
    /// What the shim notes of a task.
    #[error("encode the note of what the task has")]
    Encode(#[source] serde_json::Error),
    /// The holder of a pod's namespaces.
    #[error(transparent)]
    Holder(#[from] HolderError),
    /// A hook.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// A part of a request that comes as JSON of the OCI specification.
    #[error("read the request's {part}")]
    Request {
        /// Which.
        part: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A part of a request is of a type that nothing is known of.
    #[error("the request's {part} are of type {kind:?}, not {expected}")]
    RequestType {
        /// Which.
        part: &'static str,
        /// Its type.
        kind: String,
        /// The type that it has to be of.
        expected: &'static str,
    },
    /// A Linux container.
    #[error(transparent)]
    Linux(#[from] LinuxError),
    /// The VMM process.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The state file.
    #[error("{action} {}", path.display())]
    StateFile {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The error and its sources as one line.
#[must_use]
pub fn line(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their source's text in their own.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The error as containerd receives it.
#[must_use]
pub fn status(error: &Error) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code(error), line(error)))
}

/// The ttrpc code of an error: what containerd and its clients decide by.
fn code(error: &Error) -> Code {
    match error {
        Error::Exists(_) => Code::ALREADY_EXISTS,
        Error::NoTask(_) => Code::NOT_FOUND,
        Error::Busy(_) | Error::Ending(_) => Code::UNAVAILABLE,
        Error::Unsupported(_) => Code::UNIMPLEMENTED,
        Error::Checkpoint | Error::Request { .. } | Error::RequestType { .. } => {
            Code::INVALID_ARGUMENT
        }
        Error::CutOff(_)
        | Error::Descriptor(_)
        | Error::Encode(_)
        | Error::StateFile { .. }
        | Error::PodFiles(_)
        | Error::Rootfs(_) => Code::INTERNAL,
        Error::Bundle(error) => bundle_code(error),
        Error::Stdio(error) => stdio_code(error),
        Error::Containerd(error) => containerd_code(error),
        Error::Artifact(error) => match error {
            ArtifactError::Containerd(error) => containerd_code(error),
            ArtifactError::Manifest { .. }
            | ArtifactError::Digest { .. }
            | ArtifactError::NoWasm { .. }
            | ArtifactError::NoCommand { .. }
            | ArtifactError::Wasm(_) => Code::INVALID_ARGUMENT,
            ArtifactError::Root { .. } | ArtifactError::ReadFile { .. } => Code::INTERNAL,
        },
        Error::Compile { .. } => Code::INVALID_ARGUMENT,
        Error::Cgroup(error) => cgroup_code(error),
        Error::Holder(error) => match error {
            HolderError::HostName { .. }
            | HolderError::NotOfPod(_)
            | HolderError::Parameter { .. } => Code::INVALID_ARGUMENT,
            HolderError::Cgroup(error) => cgroup_code(error),
            HolderError::Enter { .. } | HolderError::Unshare(_) | HolderError::Spawn(_) => {
                Code::INTERNAL
            }
        },
        Error::Hook(error) => match error {
            HookError::InContainer { .. }
            | HookError::Relative { .. }
            | HookError::Timeout { .. } => Code::INVALID_ARGUMENT,
            HookError::Run { .. } | HookError::Failed { .. } | HookError::TimedOut { .. } => {
                Code::FAILED_PRECONDITION
            }
        },
        Error::Linux(error) => linux_code(error),
        Error::Launch(error) => match error {
            LaunchError::NotReady(_) => Code::FAILED_PRECONDITION,
            LaunchError::Prepare(_)
            | LaunchError::Spawn(_)
            | LaunchError::Give(_)
            | LaunchError::Nonsense
            | LaunchError::Died(_)
            | LaunchError::Hangs => Code::INTERNAL,
        },
        Error::Container(error) => match error {
            ContainerError::State { refusal: Refusal::Exited, .. } => Code::NOT_FOUND,
            ContainerError::State {
                refusal:
                    Refusal::Started
                    | Refusal::NotStarted
                    | Refusal::Paused
                    | Refusal::NotPaused
                    | Refusal::Alive,
                ..
            }
            | ContainerError::Start { .. } => Code::FAILED_PRECONDITION,
            ContainerError::NoExec { .. } => Code::NOT_FOUND,
            ContainerError::ExecExists { .. } => Code::ALREADY_EXISTS,
            ContainerError::Signal(_) => Code::INVALID_ARGUMENT,
            ContainerError::Stdio(error) => stdio_code(error),
            ContainerError::Linux(error) => linux_code(error),
            ContainerError::Cgroup(error) => cgroup_code(error),
            ContainerError::Kill { .. } | ContainerError::Rootfs(_) => Code::INTERNAL,
        },
    }
}

fn bundle_code(error: &BundleError) -> Code {
    match error {
        BundleError::Read { .. } => Code::INTERNAL,
        BundleError::UserNamespace
        | BundleError::Cri(_)
        | BundleError::Terminal
        | BundleError::TooLarge { .. }
        | BundleError::Json { .. }
        | BundleError::Missing { .. }
        | BundleError::NoArguments
        | BundleError::Text { .. }
        | BundleError::Destination(_)
        | BundleError::Cgroup(_)
        | BundleError::Annotation { .. }
        | BundleError::Port(_)
        | BundleError::AllowedDestination { .. }
        | BundleError::Memory { .. } => Code::INVALID_ARGUMENT,
    }
}

fn stdio_code(error: &StdioError) -> Code {
    match error {
        StdioError::NotFifo { .. } | StdioError::Uri { .. } | StdioError::Logger { .. } => {
            Code::INVALID_ARGUMENT
        }
        StdioError::NoTerminal => Code::FAILED_PRECONDITION,
        StdioError::Open { .. }
        | StdioError::Pipe(_)
        | StdioError::Terminal(_)
        | StdioError::Resize { .. } => Code::INTERNAL,
    }
}

fn linux_code(error: &LinuxError) -> Code {
    match error {
        LinuxError::NoRuntime | LinuxError::Refused { .. } => Code::FAILED_PRECONDITION,
        LinuxError::Call { .. } | LinuxError::Adopt(_) => Code::INTERNAL,
    }
}

fn containerd_code(error: &ContainerdError) -> Code {
    match error {
        ContainerdError::Connect { .. } | ContainerdError::Call { .. } => Code::UNAVAILABLE,
        ContainerdError::NotFound { .. } => Code::NOT_FOUND,
        ContainerdError::Namespace { .. }
        | ContainerdError::TooLarge { .. }
        | ContainerdError::Digest(_) => Code::INVALID_ARGUMENT,
        ContainerdError::Damaged { .. } => Code::DATA_LOSS,
    }
}

fn cgroup_code(error: &CgroupError) -> Code {
    match error {
        CgroupError::InUse { .. } | CgroupError::NotMounted | CgroupError::NoFreezer => {
            Code::FAILED_PRECONDITION
        }
        CgroupError::Limit { .. } | CgroupError::NoController { .. } => Code::INVALID_ARGUMENT,
        CgroupError::Mounts(_)
        | CgroupError::Create { .. }
        | CgroupError::Join { .. }
        | CgroupError::Read { .. }
        | CgroupError::NotFrozen { .. }
        | CgroupError::StillInUse { .. }
        | CgroupError::Remove { .. } => Code::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(error: impl Into<Error>) -> Code {
        code(&error.into())
    }

    #[test]
    fn what_create_refuses_is_not_unimplemented() {
        let path = PathBuf::new();
        let codes = [
            code_of(BundleError::Terminal),
            code_of(BundleError::UserNamespace),
            code_of(StdioError::NotFifo { stream: "stdout", path }),
            code_of(Error::Checkpoint),
        ];

        assert_eq!(codes, [Code::INVALID_ARGUMENT; 4]);
    }

    #[test]
    fn containerd_reads_the_codes_of_a_life() {
        let state = |refusal| ContainerError::State { name: String::new(), refusal };

        assert_eq!(code_of(Error::NoTask(String::new())), Code::NOT_FOUND);
        assert_eq!(code_of(Error::Exists(String::new())), Code::ALREADY_EXISTS);
        assert_eq!(code_of(Error::Unsupported("checkpoint")), Code::UNIMPLEMENTED);
        assert_eq!(code_of(state(Refusal::Started)), Code::FAILED_PRECONDITION);
        assert_eq!(code_of(state(Refusal::Alive)), Code::FAILED_PRECONDITION);
        assert_eq!(code_of(state(Refusal::Exited)), Code::NOT_FOUND);
    }

    #[test]
    fn an_error_is_one_line_with_its_sources() {
        let source = io::Error::other("first\nsecond");
        let error = RootfsError::MountPoint { path: PathBuf::from("/r"), source };

        assert_eq!(line(&Error::Rootfs(error)), "create /r: first second");
    }
}
