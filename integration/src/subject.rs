//! What is measured without a shim: a compiled program and the guest image, given to the VMM directly.
//!
//! The program is compiled by the `hyperlight` command, so it is what a node runs. Its streams are
//! `/dev/null`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use vmm::host::http::Incoming;
use vmm::host::{Host, Stdio, Streams};
use vmm::{
    BootParams, Config, Exit, Idle, Image, Made, MicroVm, Program, Rewound, RunStats, Shell,
    Snapshot,
};

use crate::{process, workspace};

/// Memory of each micro-VM in bytes: what `hyperlight run` gives.
const MEMORY_BYTES: u64 = 256 << 20;

/// Time for a program to be instantiated in a snapshot.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(10);

/// A program that is ready to run.
#[derive(Clone, Debug)]
pub struct Subject {
    image: Image,
    program: Program,
    config: Config,
    params: BootParams,
}

/// What `hyperlight compile --json` tells.
#[derive(Clone, Debug, Deserialize)]
pub struct Compiled {
    /// The compiled program in the cache.
    pub program: PathBuf,
    /// Bytes of the wasm file.
    pub wasm_bytes: u64,
    /// Bytes of the compiled program.
    pub program_bytes: u64,
    /// What compiling took; nothing if it was there.
    pub compile_ms: Option<f64>,
}

/// Compiles the file `wasm` into the cache directory `cache`.
///
/// # Errors
///
/// The command fails; what it said is in the error.
pub fn compile(hyperlight: &Path, wasm: &Path, cache: &Path) -> Result<Compiled> {
    let mut command = Command::new(hyperlight);
    command.args(["compile", "--json", "--cache-dir"]).arg(cache).arg(wasm);
    let told = process::run(&mut command)?.success()?;
    serde_json::from_str(&told).with_context(|| format!("read {told:?}"))
}

/// The guest image, as `make build` leaves it.
///
/// # Errors
///
/// There is none: it says what builds it.
pub fn guest_image() -> Result<PathBuf> {
    let default = workspace().join("guest/target/x86_64-unknown-linux-gnu/release/guest");
    let path = std::env::var_os("HYPERLIGHT_GUEST_IMAGE").map_or(default, PathBuf::from);
    ensure!(path.exists(), "no {}: run `make build` first", path.display());
    Ok(path)
}

impl Subject {
    /// The compiled program `program` in the guest image `image`.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is not what it should be.
    pub fn new(image: &Path, program: &Path) -> Result<Self> {
        let elf = std::fs::read(image).with_context(|| format!("read {}", image.display()))?;
        let file = File::open(program).with_context(|| format!("open {}", program.display()))?;
        Ok(Self {
            image: Image::parse(&elf)?,
            program: Program::from_file(&file)?,
            config: Config::new(MEMORY_BYTES)?,
            params: BootParams { args: vec![b"subject".to_vec()], ..BootParams::default() },
        })
    }

    /// Calls an exported function instead of the command: `name` of a core module, with arguments beside it, or a
    /// call in WAVE of a component.
    #[must_use]
    pub fn invoke(mut self, name: &str, arguments: &[&str]) -> Self {
        self.params.invoke = name.into();
        self.params.args.truncate(1);
        self.params.args.extend(arguments.iter().map(|it| it.as_bytes().to_vec()));
        self
    }

    /// Makes the snapshot, writes it to a file of `directory`, as it lies in a node's cache, and loads that.
    ///
    /// # Errors
    ///
    /// The VMM fails, the program cannot be loaded, or the file cannot be written.
    pub fn snapshot(&self, directory: &Path) -> Result<Snapshot> {
        let made = Snapshot::make(&self.config, &self.image, &self.program, SNAPSHOT_LIMIT)?;
        let Made::Snapshot(made) = made else { bail!("no snapshot: {made:?}") };
        let path = directory.join("snapshot");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        made.write_to(&file).with_context(|| format!("write {}", path.display()))?;
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        Ok(Snapshot::from_file(file)?)
    }

    /// Boots a micro-VM without a snapshot and runs it to its end.
    ///
    /// # Errors
    ///
    /// The VMM fails, or the program does.
    pub fn boot_and_run(&self) -> Result<RunStats> {
        let host = silent_host()?;
        let vm = MicroVm::boot(&self.config, &self.image, &self.program, &self.params, host)?;
        let (exit, stats) = vm.run()?;
        succeeded(&exit)?;
        Ok(stats)
    }

    /// A shell that has the guest image and the program.
    ///
    /// # Errors
    ///
    /// The VMM fails.
    pub fn shell(&self) -> Result<Shell> {
        Ok(Shell::with(&self.image, &self.program)?)
    }

    /// Starts a micro-VM in `shell` from `snapshot` and runs it to its end.
    ///
    /// # Errors
    ///
    /// The VMM fails, or the program does.
    pub fn start(&self, shell: Shell, snapshot: &Snapshot, host: Host) -> Result<Idle> {
        let (image, program) = (&self.image, &self.program);
        run(MicroVm::start(shell, image, program, snapshot, &self.config, &self.params, host)?)
    }

    /// Puts a micro-VM back to its snapshot and runs it to its end.
    ///
    /// # Errors
    ///
    /// The VMM fails, or the program does.
    pub fn reset(&self, idle: Idle, host: Host) -> Result<Idle> {
        run(idle.reset(&self.params, host)?)
    }

    /// A micro-VM in `shell` in the state of `snapshot`.
    ///
    /// # Errors
    ///
    /// The VMM fails.
    pub fn rewound(&self, shell: Shell, snapshot: &Snapshot) -> Result<Rewound> {
        Ok(Rewound::new(shell, &self.image, &self.program, snapshot, &self.config)?)
    }

    /// Has a micro-VM in the state of its snapshot handle a request, as `isolation=request` does.
    ///
    /// # Errors
    ///
    /// The VMM fails, or the program does.
    pub fn handle(&self, rewound: Rewound, incoming: Incoming) -> Result<Idle> {
        let (mut host, mut params) = (silent_host()?, self.params.clone());
        params.request = host.admit(incoming)?;
        run(rewound.start(&params, host)?)
    }

    /// Has the instance handle a request that has handled others, as `isolation=none` does.
    ///
    /// # Errors
    ///
    /// The VMM fails, or the program does.
    pub fn handle_another(&self, mut idle: Idle, incoming: Incoming) -> Result<Idle> {
        let mut params = self.params.clone();
        params.request = idle.host().admit(incoming)?;
        run(idle.call(&params)?)
    }

    /// Calls the program once more where it has ended, with what it was told before.
    ///
    /// # Errors
    ///
    /// The VMM fails, or the program does.
    pub fn again(idle: Idle) -> Result<Idle> {
        run(idle.again()?)
    }
}

fn run(vm: MicroVm) -> Result<Idle> {
    let (exit, _, idle) = vm.run_and_keep()?;
    succeeded(&exit)?;
    Ok(idle)
}

/// Whether a program ended well.
fn succeeded(exit: &Exit) -> Result<()> {
    ensure!(*exit == Exit::Status(0), "the program ended by {exit:?}");
    Ok(())
}

/// A host whose streams are `/dev/null`, opened once.
///
/// # Errors
///
/// It cannot be opened.
pub fn silent_host() -> Result<Host> {
    static STREAMS: OnceLock<Streams> = OnceLock::new();
    let null = || -> Result<OwnedFd> {
        let file = File::options().read(true).write(true).open("/dev/null");
        Ok(file.context("open /dev/null")?.into())
    };
    let streams = match STREAMS.get() {
        Some(streams) => streams,
        None => {
            let stdio = Stdio { stdin: null()?, stdout: null()?, stderr: null()? };
            let streams = Streams::new(stdio)?;
            STREAMS.get_or_init(|| streams)
        }
    };
    Ok(Host::with_streams(streams)?)
}
