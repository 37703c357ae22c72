//! What creating a task took, step by step: one line in the log per task, which benchmarks read.
//!
//! Rule: always measured, never acted on. A step takes two readings of the clock.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::launch::Cost;

/// The steps of one creation. Some happen at the same time: they do not add up.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    began: Instant,
    cpu_before: Duration,
    /// All of it, as containerd sees it.
    pub(super) create: Duration,
    /// Reading the bundle and opening the streams.
    pub(super) bundle: Duration,
    /// Starting the VMM process; nothing if one was waiting.
    pub(super) spawn: Duration,
    /// Mounting the root file system.
    pub(super) rootfs: Duration,
    /// Making the control group.
    pub(super) cgroup: Duration,
    /// Finding the image's wasm.
    pub(super) find: Duration,
    /// Finding the compiled program, or compiling it.
    pub(super) program: Duration,
    /// From the work to the micro-VM that is ready.
    pub(super) ready: Duration,
    /// The VMM process's own account.
    pub(super) vmm: Cost,
}

impl Steps {
    /// A creation that begins.
    pub(crate) fn begin() -> Self {
        let none = Duration::ZERO;
        Self {
            began: Instant::now(),
            cpu_before: cpu(),
            create: none,
            bundle: none,
            spawn: none,
            rootfs: none,
            cgroup: none,
            find: none,
            program: none,
            ready: none,
            vmm: Cost::default(),
        }
    }

    /// The creation is done.
    pub(super) fn end(&mut self) {
        self.create = self.began.elapsed();
    }

    /// Tells the log what it took up to the start of task `id`, in milliseconds. `cpu` is CPU time of
    /// the shim, its other tasks included, from the beginning of the creation on; `vmm_cpu` that of the
    /// VMM process up to its readiness.
    pub(super) fn log(&self, id: &str) {
        let of_vmm = |micros| ms(Duration::from_micros(micros));
        log::info!(
            task = id, create_ms = ms(self.create), bundle_ms = ms(self.bundle),
            spawn_ms = ms(self.spawn), rootfs_ms = ms(self.rootfs), cgroup_ms = ms(self.cgroup),
            find_ms = ms(self.find), program_ms = ms(self.program), ready_ms = ms(self.ready),
            vmm_confine_ms = of_vmm(self.vmm.confine), vmm_join_ms = of_vmm(self.vmm.join),
            vmm_lock_ms = of_vmm(self.vmm.lock),
            vmm_boot_ms = of_vmm(self.vmm.boot),
            vmm_cpu_ms = of_vmm(self.vmm.cpu), cpu_ms = ms(cpu().saturating_sub(self.cpu_before));
            "start"
        );
    }
}

/// Runs one step and notes what it took.
pub(super) fn timed<T>(took: &mut Duration, step: impl FnOnce() -> T) -> T {
    let since = Instant::now();
    let outcome = step();
    *took = since.elapsed();
    outcome
}

/// Runs one step that waits, and notes what it took.
pub(super) async fn timed_async<T>(took: &mut Duration, step: impl Future<Output = T>) -> T {
    let since = Instant::now();
    let outcome = step.await;
    *took = since.elapsed();
    outcome
}

/// CPU time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::from_secs(seconds)
        + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

fn ms(duration: Duration) -> f64 {
    // Microseconds are exact, and enough.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
