//! What the micro-VMs of a workload are started from, and what each of them is granted.
//!
//! Rule: everything that the workload names is opened once, before anything runs; each micro-VM is granted
//! duplicates. The program is loaded once too: its snapshot is given or, where there is none that can be used, made
//! here for this process alone.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags};
use vmm::host::{DirAccess, Host, Stdio, Streams};
use vmm::{BootParams, Config, Exit, Image, MicroVm, Program, Rewound, Snapshot};

use super::{Cached, RunError, Standby};
use crate::error::line;
use crate::guest_image::GUEST_IMAGE;
use crate::net::Network;
use crate::snapshots;
use crate::workload::{Preopen, Text, Workload};

/// What micro-VMs are started from.
#[derive(Debug)]
pub struct Source {
    image: Image,
    program: Program,
    config: Config,
    /// One that fits the micro-VM's memory.
    snapshot: Option<Snapshot>,
    params: BootParams,
    /// Those of this process, once a micro-VM was granted them.
    streams: OnceLock<Streams>,
    dirs: Vec<Dir>,
    network: Option<Network>,
}

/// A directory that each micro-VM is granted.
#[derive(Debug)]
struct Dir {
    fd: OwnedFd,
    preopen: Preopen,
}

impl Source {
    /// Opens everything that `workload` names, and gets the snapshot of its compiled program. The inner error is the end
    /// of a guest that could not load the program.
    ///
    /// # Errors
    ///
    /// [`RunError`].
    pub fn open(
        workload: &Workload,
        program: &File,
        cached: Cached,
    ) -> Result<Result<Self, Exit>, RunError> {
        let image = match cached.image {
            Some(file) => Image::from_file(GUEST_IMAGE, &file)?,
            None => Image::parse(GUEST_IMAGE)?,
        };
        let program = Program::from_file(program)?;
        let config = Config::new(workload.memory.get())?;
        let dirs = workload.preopens.iter().map(Dir::open).collect::<Result<_, _>>()?;
        let kept = cached.snapshot.and_then(|file| match Snapshot::from_file(file) {
            Ok(snapshot) => Some(snapshot),
            Err(error) => {
                log::warn!("the program is loaded anew: {}", line(&error));
                None
            }
        });
        let snapshot = match kept {
            Some(snapshot) => Some(snapshot),
            None => match snapshots::make(&image, &program) {
                Ok(Ok(snapshot)) => Some(snapshot),
                Ok(Err(exit)) => return Ok(Err(exit)),
                Err(error) => {
                    log::warn!("start without a snapshot: {}", line(&error));
                    None
                }
            },
        };
        // It may do with less when it is loaded in less; if not, the guest says what it lacks.
        let snapshot = snapshot.filter(|snapshot| snapshot.fits(&config));
        let params = boot_params(workload);
        let network = workload.network.as_ref().map(Network::new);
        let streams = OnceLock::new();
        Ok(Ok(Self { image, program, config, snapshot, params, streams, dirs, network }))
    }

    /// What micro-VMs of another guest image than ours are started from.
    #[cfg(test)]
    pub(crate) fn of_guest(elf: &[u8], workload: &Workload) -> Self {
        let (image, program) =
            (Image::parse(elf).unwrap(), Program::from_bytes(b"program").unwrap());
        Self {
            snapshot: Some(snapshots::make(&image, &program).unwrap().unwrap()),
            config: Config::new(workload.memory.get()).unwrap(),
            image,
            program,
            params: boot_params(workload),
            streams: OnceLock::new(),
            dirs: Vec::new(),
            network: None,
        }
    }

    /// Whether micro-VMs start with an instance that was made ahead.
    #[must_use]
    pub fn is_instantiated(&self) -> bool {
        self.snapshot.as_ref().is_some_and(Snapshot::is_instantiated)
    }

    /// What the program is told, but for a request.
    #[must_use]
    pub fn params(&self) -> BootParams {
        self.params.clone()
    }

    /// What one micro-VM is granted: the standard streams of this process, the directories, and the network.
    ///
    /// # Errors
    ///
    /// [`RunError::Host`]; there are no descriptors left.
    pub fn host(&self) -> Result<Host, RunError> {
        let streams = match self.streams.get() {
            Some(streams) => streams,
            None => {
                let streams = Streams::new(Stdio::inherit()?)?;
                self.streams.get_or_init(|| streams)
            }
        };
        let mut host = Host::with_streams(streams)?;
        for Dir { fd, preopen } in &self.dirs {
            let access = if preopen.read_only { DirAccess::ReadOnly } else { DirAccess::ReadWrite };
            let fd = fd.try_clone().map_err(|source| open_dir_failed(preopen, source))?;
            host.preopen(fd, preopen.guest_path.as_str(), access)?;
        }
        if let Some(network) = &self.network {
            host.grant_network(network.granted());
            let client = network.client().clone();
            host.grant_http(Arc::new(move |outgoing| client.fetch(outgoing)));
        }
        Ok(host)
    }

    /// A micro-VM in `standby` that is told `params` and granted `host`.
    ///
    /// # Errors
    ///
    /// [`RunError::Vmm`].
    pub fn start(
        &self,
        standby: Standby,
        params: &BootParams,
        host: Host,
    ) -> Result<MicroVm, RunError> {
        Ok(match self.rewound(standby)? {
            Some(rewound) => rewound.start(params, host)?,
            None => MicroVm::boot(&self.config, &self.image, &self.program, params, host)?,
        })
    }

    /// A micro-VM in `standby` in the state of the snapshot; none without a snapshot.
    ///
    /// # Errors
    ///
    /// [`RunError::Vmm`].
    pub fn rewound(&self, standby: Standby) -> Result<Option<Rewound>, RunError> {
        let Some(snapshot) = &self.snapshot else { return Ok(None) };
        Ok(Some(Rewound::new(standby.0, &self.image, &self.program, snapshot, &self.config)?))
    }
}

impl Dir {
    fn open(preopen: &Preopen) -> Result<Self, RunError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&preopen.host_path, flags, Mode::empty())
            .map_err(|errno| open_dir_failed(preopen, errno.into()))?;
        Ok(Self { fd, preopen: preopen.clone() })
    }
}

fn open_dir_failed(preopen: &Preopen, source: io::Error) -> RunError {
    RunError::OpenDir { path: preopen.host_path.clone(), source }
}

/// What the program is told. Where the workload has nothing, the boot information has no bytes.
pub(super) fn boot_params(workload: &Workload) -> BootParams {
    let bytes = |text: Option<&Text>| text.map_or_else(Vec::new, |text| text.as_str().into());
    BootParams {
        program_name: workload.program_name.as_str().into(),
        cwd: bytes(workload.cwd.as_ref()),
        invoke: bytes(workload.invoke.as_ref()),
        args: workload.args.iter().map(|arg| arg.as_str().into()).collect(),
        env: workload.env.iter().map(|entry| entry.as_str().into()).collect(),
        ..BootParams::default()
    }
}
