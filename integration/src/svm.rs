//! An ordinary KVM without hardware support: QEMU emulates a CPU with AMD's SVM and nested paging, and
//! a stock Debian kernel in it offers `/dev/kvm`. What works on this and on the machine's own KVM is
//! tuned to neither.
//!
//! The virtual machine has no disk, no network and nothing of the host: an initial RAM file system
//! holds a static busybox, the kernel modules and what the [`Job`] packs. Control groups are those of
//! version 2 alone. Four serial ports carry the console, standard output, standard error and the exit status. Time in it says nothing: it is
//! emulated and slow. But a [counting](Job::counting) one has a clock that goes on by a nanosecond with each
//! instruction: differences of time are numbers of instructions there, the same whatever this machine does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, Outcome};
use crate::tools::{self, Tree};

/// Longest run: the emulated CPU is some 30 times slower than this machine's, which may be busy.
const LIMIT: Duration = Duration::from_secs(900);

/// QEMU's options for a clock that goes by the host's.
const TIMED: &[&str] = &["-cpu", "max", "-accel", "tcg"];

/// QEMU's options for a clock that goes by the instructions executed: 2^0 ns each, and when nothing is
/// to be executed it jumps to the next timer. Every byte of a `rep movsb` counts there, so the CPU does not
/// call it fast, and libraries copy by vectors as they would on a CPU where it is slow.
const COUNTING: &[&str] =
    &["-cpu", "max,-erms,-fsrm", "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"];

/// The first program in the virtual machine. It leaves the status on the last port and turns off.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin HOME=/
# The root of the initial RAM file system cannot be exchanged for another (pivot_root(2)); a mount of it can.
if [ -z "$mounted" ]; then
    /bin/busybox mkdir /mounted
    /bin/busybox mount --bind / /mounted
    export mounted=1
    exec /bin/busybox chroot /mounted /init
fi
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts /tmp
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
while read -r module; do insmod "/modules/$module.ko"; done </modules/order
ip link set lo up
for port in 1 2 3; do stty -F /dev/ttyS$port raw; done
if [ -c /dev/kvm ]; then
    # Pipes, as anywhere: a serial port is no file to write to from several processes.
    mkfifo /tmp/1 /tmp/2
    cat /tmp/1 >/dev/ttyS1 & first=$!
    cat /tmp/2 >/dev/ttyS2 & second=$!
    sh /job </dev/null >/tmp/1 2>/tmp/2
    status=$?
    wait $first $second
    echo $status >/dev/ttyS3
fi
poweroff -f
"#;

/// What a virtual machine gets and does.
#[derive(Debug)]
pub struct Job {
    files: BTreeMap<String, Entry>,
    modules: Vec<&'static str>,
    script: String,
    counting: bool,
}

/// An entry of the initial RAM file system: mode with type bits, content.
type Entry = (u32, Vec<u8>);

impl Job {
    /// A job that runs `script` with busybox's `sh`.
    #[must_use]
    pub fn new(script: &str) -> Self {
        Self {
            files: BTreeMap::new(),
            modules: vec!["kvm_amd"],
            script: script.to_owned(),
            counting: false,
        }
    }

    /// Lets the virtual machine's clock count instructions.
    #[must_use]
    pub fn counting(mut self) -> Self {
        self.counting = true;
        self
    }

    /// Loads a kernel module beside KVM's, if it is not built in.
    #[must_use]
    pub fn module(mut self, name: &'static str) -> Self {
        self.modules.push(name);
        self
    }

    /// Packs the file `source` as `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn file(&mut self, source: &Path, path: &str) -> Result<&mut Self> {
        let bytes = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        self.files.insert(path.trim_start_matches('/').to_owned(), (0o100_755, bytes));
        Ok(self)
    }

    /// Packs `text` as the script `path`.
    pub fn script(&mut self, text: &str, path: &str) -> &mut Self {
        self.files.insert(path.trim_start_matches('/').to_owned(), (0o100_755, text.into()));
        self
    }

    /// Packs the program `source` as `path`, with the shared libraries it loads at their own paths.
    ///
    /// # Errors
    ///
    /// It or one of its libraries cannot be read.
    pub fn program(&mut self, source: &Path, path: &str) -> Result<&mut Self> {
        self.file(source, path)?;
        let listed = process::run(Command::new("ldd").arg(source))?;
        // "name => /path (address)", "/path (address)" for the loader; nothing for a static program.
        let libraries = listed.stdout.split_whitespace().filter(|word| word.starts_with('/'));
        for library in libraries {
            self.file(library.as_ref(), library)?;
        }
        Ok(self)
    }

    /// Boots a virtual machine with this job and returns what the script printed and its status.
    ///
    /// # Errors
    ///
    /// The virtual machine cannot be started, ends without a status (the end of its console is in
    /// the error) or takes longer than 15 minutes.
    pub fn run(&self) -> Result<Outcome> {
        // Jobs run side by side.
        static JOBS: AtomicU32 = AtomicU32::new(0);
        let job = JOBS.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("svm-{}-{job}", std::process::id()));
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        let result = self.run_in(&directory);
        fs::remove_dir_all(&directory)
            .with_context(|| format!("remove {}", directory.display()))?;
        result
    }

    fn run_in(&self, directory: &Path) -> Result<Outcome> {
        let qemu = tools::tree("qemu")?;
        let kernel = tools::tree("kernel")?;
        let initramfs = directory.join("initramfs");
        fs::write(&initramfs, self.initramfs(&qemu, &kernel)?)
            .context("write the initial RAM file system")?;
        let mut command = qemu.command("qemu-system-x86_64")?;
        command
            .env("QEMU_MODULE_DIR", qemu.root().join("usr/lib/x86_64-linux-gnu/qemu"))
            .arg("-L")
            .arg(qemu.root().join("usr/share/qemu"))
            .arg("-L")
            .arg(qemu.root().join("usr/share/seabios"))
            .args(["-machine", "q35", "-m", "2048"])
            .args(if self.counting { COUNTING } else { TIMED })
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(file_named(&kernel.root().join("boot"), "vmlinuz-")?)
            .arg("-initrd")
            .arg(&initramfs)
            // The emulated timers fail the kernel's check of the I/O APIC; the rest saves time.
            .args([
                "-append",
                "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable mitigations=off nokaslr",
            ]);
        let ports = ["console", "stdout", "stderr", "status"].map(|name| directory.join(name));
        for port in &ports {
            command.arg("-serial").arg(format!("file:{}", port.display()));
        }
        let ended = process::finish_within(process::start(&mut command)?, LIMIT);
        let [console, stdout, stderr, status] = ports
            .map(|port| String::from_utf8_lossy(&fs::read(port).unwrap_or_default()).into_owned());
        let ended =
            ended.with_context(|| format!("the console says:\n{console}{stdout}{stderr}"))?;
        let Ok(status) = status.trim().parse::<i32>() else {
            bail!(
                "the virtual machine ended without a status: {}\n{console}{stdout}{stderr}",
                ended.stderr
            );
        };
        use std::os::unix::process::ExitStatusExt as _;
        let status = std::process::ExitStatus::from_raw(status << 8);
        Ok(Outcome { stdout, stderr, status, elapsed: ended.elapsed })
    }

    fn initramfs(&self, qemu: &Tree, kernel: &Tree) -> Result<Vec<u8>> {
        let busybox = qemu.file(&["usr/bin/busybox", "bin/busybox"])?;
        let mut files = self.files.clone();
        let mut add =
            |path: &str, bytes: Vec<u8>| files.insert(path.to_owned(), (0o100_755, bytes));
        add(
            "bin/busybox",
            fs::read(&busybox).with_context(|| format!("read {}", busybox.display()))?,
        );
        add("init", INIT.into());
        add("job", self.script.clone().into());
        let mut modules = Modules { root: kernel.root().to_owned(), busybox, order: Vec::new() };
        self.modules.iter().try_for_each(|name| modules.add(name))?;
        let order: String = modules.order.iter().map(|(name, _)| format!("{name}\n")).collect();
        add("modules/order", order.into());
        for (name, bytes) in modules.order {
            add(&format!("modules/{name}.ko"), bytes);
        }
        for mount_point in ["dev", "proc", "sys"] {
            files.insert(mount_point.to_owned(), (0o040_755, Vec::new()));
        }
        Ok(archive(&files))
    }
}

/// Kernel modules in the order in which they are to be loaded.
struct Modules {
    root: PathBuf,
    busybox: PathBuf,
    order: Vec<(String, Vec<u8>)>,
}

impl Modules {
    /// Adds what the module `name` depends on, then the module. One without a file is built in.
    fn add(&mut self, name: &str) -> Result<()> {
        if self.order.iter().any(|(added, _)| added == name) {
            return Ok(());
        }
        let Some(path) = self.find(name) else { return Ok(()) };
        let bytes = if path.extension().is_some_and(|extension| extension == "ko") {
            fs::read(&path).with_context(|| format!("read {}", path.display()))?
        } else {
            // Newer kernels' modules are packed by xz.
            let output = Command::new(&self.busybox).args(["xz", "-dc"]).arg(&path).output();
            output.with_context(|| format!("unpack {}", path.display()))?.stdout
        };
        // The .modinfo section holds NUL-terminated "depends=a,b" (modinfo(8)); depmod's lists are
        // made at installation, which does not happen here.
        let depends =
            bytes.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"depends="));
        let depends = String::from_utf8_lossy(depends.unwrap_or_default()).into_owned();
        for name in depends.split(',').filter(|name| !name.is_empty()) {
            self.add(name)?;
        }
        self.order.push((name.to_owned(), bytes));
        Ok(())
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        // A file may be called with dashes where its module has underscores.
        let is_it = |path: &Path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
            file.split_once(".ko").is_some_and(|(stem, _)| stem == name)
        };
        let mut pending = vec![self.root.join("lib/modules"), self.root.join("usr/lib/modules")];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(path);
                } else if is_it(&path) {
                    return Some(path);
                }
            }
        }
        None
    }
}

/// The file of `directory` whose name begins with `prefix`.
fn file_named(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .with_context(|| format!("no {prefix}* in {}", directory.display()))
}

/// A cpio archive of the "newc" format, as the kernel unpacks it
/// (Documentation/driver-api/early-userspace/buffer-format.rst), with the directories of its files.
fn archive(files: &BTreeMap<String, Entry>) -> Vec<u8> {
    let mut entries: BTreeMap<&str, (u32, &[u8])> = BTreeMap::new();
    for (path, (mode, bytes)) in files {
        for (end, _) in path.match_indices('/') {
            entries.insert(&path[..end], (0o040_755, &[]));
        }
        entries.insert(path, (*mode, bytes));
    }
    let mut out = Vec::new();
    let mut put = |inode: usize, path: &str, mode: u32, bytes: &[u8]| {
        let name = path.len() + 1;
        let size = bytes.len();
        // Inode, mode, uid, gid, links, mtime, size, device (2), device of a node (2), name, check.
        let header = format!(
            "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{0:08x}{0:08x}{name:08x}{0:08x}",
            0, 1
        );
        for part in [header.as_bytes(), path.as_bytes(), &[0]] {
            out.extend_from_slice(part);
        }
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    for (inode, (path, (mode, bytes))) in entries.into_iter().enumerate() {
        put(inode + 1, path, mode, bytes);
    }
    put(0, "TRAILER!!!", 0, &[]);
    out
}
