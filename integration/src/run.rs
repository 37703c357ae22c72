//! One run of one test program, in a micro-VM and by the wasmtime command, and what must be the same.
//!
//! Compared are standard output, standard error, exit status and the files left behind in the granted
//! directory; of a trap, which each tells in its own way, the trap itself. A program that may differ is in
//! [`DIFFERENT`] with the reason, and runs here alone.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, Outcome};
use crate::programs;
use crate::scratch::Scratch;
use crate::{hyperlight, leaks, oci, tools};

/// Where a program finds the granted directory.
pub const DIRECTORY: &str = "/data";

/// Programs whose run by the wasmtime command is not the same, and why.
pub const DIFFERENT: &[(&str, &str)] = &[
    (
        "file_errors",
        "writing to a file that is open for reading gives EINVAL or EIO there, and EBADF here as in POSIX",
    ),
    (
        "names_not_utf8",
        "a name that is not UTF-8 ends the list there; for p1 it passes here as it is",
    ),
    ("files_without_end", "the wasmtime command has the bounds of its process"),
    ("poll_without_end", "the wasmtime command has no bound"),
    ("streams_without_end", "the wasmtime command has other bounds"),
    ("subscriptions_without_end", "the wasmtime command has other bounds"),
];

/// Proposals that the wasmtime command has but does not allow by itself.
const PROPOSALS: &str = "exceptions,function-references,gc,tail-call,multi-memory,memory64";

/// A program with all that it is given.
#[derive(Debug)]
pub struct Run {
    program: String,
    wasm: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
    directory: Option<Directory>,
    options: Vec<String>,
    network: bool,
}

#[derive(Debug)]
struct Directory {
    prepare: fn(&Path) -> Result<()>,
    suffix: &'static str,
    in_memory: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Output and status.
    pub outcome: Outcome,
    /// The files left in the directory, one a line, in order.
    pub files: Vec<String>,
}

impl Ended {
    /// Standard output of a program that ended well and said nothing to standard error.
    ///
    /// # Panics
    ///
    /// If it did not.
    #[must_use]
    pub fn output(self) -> String {
        let outcome = self.outcome;
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{outcome:?}");
        outcome.stdout
    }
}

impl Run {
    /// A run of the test program `name` ([`programs::program`]) with nothing granted.
    ///
    /// # Errors
    ///
    /// It cannot be built.
    pub fn of(name: &str) -> Result<Self> {
        Ok(Self {
            program: name.to_owned(),
            wasm: programs::program(name)?,
            arguments: Vec::new(),
            environment: Vec::new(),
            input: Vec::new(),
            directory: None,
            options: Vec::new(),
            network: false,
        })
    }

    /// Gives it arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&it| it.to_owned()));
        self
    }

    /// Gives it an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives it standard input, which then ends.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Gives it a directory of its own at [`DIRECTORY`] with what `prepare` puts there.
    #[must_use]
    pub fn directory(mut self, prepare: fn(&Path) -> Result<()>) -> Self {
        self.directory = Some(Directory { prepare, suffix: "", in_memory: false });
        self
    }

    /// As [`Run::directory`], in memory: for more files than a disk should be bothered with.
    #[must_use]
    pub fn directory_in_memory(mut self, prepare: fn(&Path) -> Result<()>) -> Self {
        self.directory = Some(Directory { prepare, suffix: "", in_memory: true });
        self
    }

    /// As [`Run::directory`], but the program may change nothing there. The wasmtime command has no
    /// such option, so it cannot be compared.
    #[must_use]
    pub fn read_only_directory(mut self, prepare: fn(&Path) -> Result<()>) -> Self {
        self.directory = Some(Directory { prepare, suffix: ":ro", in_memory: false });
        self
    }

    /// Gives `hyperlight run` an option.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Gives it the network, which `hyperlight run` does by itself and the wasmtime command does not.
    #[must_use]
    pub fn network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Runs it on both and compares, unless it is among [`DIFFERENT`] or reads a directory that it must
    /// not change.
    ///
    /// # Errors
    ///
    /// One of them cannot run, or what they did differs: both are in the error.
    pub fn compared(&self) -> Result<Ended> {
        let stem = self.program.split('.').next().unwrap_or_default();
        let read_only = self.directory.as_ref().is_some_and(|it| !it.suffix.is_empty());
        if read_only || DIFFERENT.iter().any(|(name, _)| *name == stem) {
            return self.in_micro_vm();
        }
        let theirs = self.by_wasmtime().context("run by the wasmtime command")?;
        let ours = self.in_micro_vm()?;
        // "wasm trap: integer divide by zero", at the end of what the wasmtime command says.
        let trap =
            theirs.outcome.stderr.lines().find_map(|it| Some(it.split_once("wasm trap: ")?.1));
        let same = |ended: &Ended| {
            let Outcome { stdout, stderr, .. } = &ended.outcome;
            let stderr = match trap {
                Some(trap) if stderr.contains(trap) => trap,
                _ => stderr.as_str(),
            };
            (stdout.clone(), stderr.to_owned(), ended.outcome.code(), ended.files.clone())
        };
        ensure!(
            same(&ours) == same(&theirs),
            "{}: the wasmtime command gives\n{theirs:#?}\nand a micro-VM\n{ours:#?}",
            self.program
        );
        Ok(ours)
    }

    /// Runs it in a micro-VM, where nothing may be left over.
    ///
    /// # Errors
    ///
    /// It cannot be compiled or started, or hangs.
    pub fn in_micro_vm(&self) -> Result<Ended> {
        let hyperlight = hyperlight()?;
        let _watch = leaks::watch()?;
        // So that nothing is said about it later.
        process::run(Command::new(&hyperlight).arg("compile").arg(&self.wasm))?.success()?;
        let mut command = Command::new(&hyperlight);
        command.arg("run").args(&self.options);
        self.end(command, &self.wasm)
    }

    /// Runs it by the wasmtime command.
    ///
    /// # Errors
    ///
    /// It cannot be compiled or started, or hangs.
    pub fn by_wasmtime(&self) -> Result<Ended> {
        let compiled = self.compiled_for_wasmtime()?;
        let mut command = tools::tree("wasmtime")?.script("wasmtime")?;
        command.args(["run", "--allow-precompiled", "-W", PROPOSALS]);
        if self.network {
            command.args(["-S", "inherit-network,allow-ip-name-lookup"]);
        }
        command.arg("--argv0");
        command.arg(self.wasm.file_name().unwrap_or_default());
        self.end(command, &compiled)
    }

    /// Once for each program: that of a language's runtime takes seconds.
    fn compiled_for_wasmtime(&self) -> Result<PathBuf> {
        let compiled = self.wasm.with_extension("cwasm");
        let lock = self.wasm.with_file_name("wasmtime.lock");
        let lock = File::create(&lock).with_context(|| format!("create {}", lock.display()))?;
        lock.lock().context("wait for another compilation")?;
        if !compiled.exists() {
            let partial = compiled.with_extension("partial");
            let mut compile = tools::tree("wasmtime")?.script("wasmtime")?;
            compile.args(["compile", "-W", PROPOSALS, "-o"]).args([&partial, &self.wasm]);
            process::run(&mut compile)?.success()?;
            fs::rename(&partial, &compiled)
                .with_context(|| format!("rename {}", partial.display()))?;
        }
        Ok(compiled)
    }

    /// Both commands take the same options for what is granted.
    fn end(&self, mut command: Command, file: &Path) -> Result<Ended> {
        for (name, value) in &self.environment {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        let in_memory = self.directory.as_ref().is_some_and(|it| it.in_memory);
        let scratch = if in_memory { Scratch::in_memory() } else { Scratch::new() }?;
        if let Some(Directory { prepare, suffix, .. }) = &self.directory {
            prepare(&scratch).context("prepare the directory")?;
            command.arg("--dir").arg(format!("{}::{DIRECTORY}{suffix}", scratch.display()));
        }
        // What follows the file belongs to the program.
        command.arg(file).args(&self.arguments);
        let outcome = process::run_with_input(&mut command, &self.input)?;
        Ok(Ended { outcome, files: listed(&scratch)? })
    }
}

/// What is below a directory: for each name its type, permissions, number of links, size, content and
/// times that were set on purpose.
fn listed(directory: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(below) = pending.pop() {
        for entry in fs::read_dir(&below).with_context(|| format!("list {}", below.display()))? {
            let path = entry.context("list what is left")?.path();
            let metadata = fs::symlink_metadata(&path)
                .with_context(|| format!("look at {}", path.display()))?;
            let content = if metadata.is_symlink() {
                let target = fs::read_link(&path);
                target.with_context(|| format!("read {}", path.display()))?.display().to_string()
            } else if metadata.is_file() && metadata.len() < 1 << 30 {
                let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                oci::digest(&bytes)
            } else {
                String::new()
            };
            // Directories have sizes and numbers of links of their own.
            let (links, size) =
                if metadata.is_dir() { (0, 0) } else { (metadata.nlink(), metadata.len()) };
            let name = path.strip_prefix(directory).unwrap_or(&path).as_os_str().as_bytes();
            lines.push(format!(
                "{} {:o} {links} {size} {content}{}{}",
                name.escape_ascii(),
                metadata.mode(),
                set_on_purpose(" accessed", metadata.accessed()),
                set_on_purpose(" modified", metadata.modified()),
            ));
            if metadata.is_dir() {
                pending.push(path);
            }
        }
    }
    lines.sort();
    Ok(lines)
}

/// A time that no program of today gets by itself.
fn set_on_purpose(name: &str, time: std::io::Result<SystemTime>) -> String {
    const RECENT: Duration = Duration::from_secs(7 * 24 * 3600);
    match time {
        Ok(time) if time.elapsed().unwrap_or_default() > RECENT => format!("{name} {time:?}"),
        _ => String::new(),
    }
}
