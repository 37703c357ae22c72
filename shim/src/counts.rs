//! What is counted of micro-VMs and of what they start from.
//!
//! Rule: counted in any case, and told to the log: at the end of each task and exec what it had ([`Counts`]), at
//! the end of the shim the sums of all that it served ([`Totals`]), which it also adds to those of the node
//! (`node`). What was killed tells nothing of itself.

pub(crate) mod node;

use serde::{Deserialize, Serialize};
use vmm::{Exit, Fault, RunStats};

/// What a VMM process counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Micro-VMs that were made.
    pub micro_vms: u64,
    /// VM exits by the doorbell: one for each host call.
    pub doorbell_exits: u64,
    /// VM exits by a signal.
    pub interrupted_exits: u64,
    /// Runs that ended by a fault of the guest: a breach of the contract, the end of its memory. A trap is
    /// the program's, and tells itself by its status.
    pub faults: u64,
}

impl Counts {
    /// Adds a run, which ended by `exit`.
    pub(crate) fn add_run(&mut self, exit: &Exit, stats: &RunStats) {
        self.doorbell_exits += stats.doorbell_exits;
        self.interrupted_exits += stats.interrupted_exits;
        self.faults += u64::from(matches!(exit, Exit::Fault(fault) if *fault != Fault::Stopped));
    }

    /// Adds those of another process, which may have come from anywhere.
    fn add(&mut self, other: Self) {
        let Self { micro_vms, doorbell_exits, interrupted_exits, faults } = other;
        self.micro_vms = self.micro_vms.saturating_add(micro_vms);
        self.doorbell_exits = self.doorbell_exits.saturating_add(doorbell_exits);
        self.interrupted_exits = self.interrupted_exits.saturating_add(interrupted_exits);
        self.faults = self.faults.saturating_add(faults);
    }
}

/// What a micro-VM was started from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Whether the program was compiled for it, and not found in the cache.
    pub compiled: bool,
    /// Whether a snapshot of it was found.
    pub from_snapshot: bool,
}

/// The sums of all tasks and execs of a shim, or of the shims of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    tasks: u64,
    execs: u64,
    compilations: u64,
    snapshot_hits: u64,
    snapshot_misses: u64,
    killed: u64,
    counts: Counts,
}

impl Totals {
    /// Adds a task that was created.
    pub(crate) fn add_task(&mut self, origins: Origins) {
        self.tasks += 1;
        self.add_origins(origins);
    }

    /// Adds an exec that was started.
    pub(crate) fn add_exec(&mut self, origins: Origins) {
        self.execs += 1;
        self.add_origins(origins);
    }

    fn add_origins(&mut self, Origins { compiled, from_snapshot }: Origins) {
        self.compilations += u64::from(compiled);
        self.snapshot_hits += u64::from(from_snapshot);
        self.snapshot_misses += u64::from(!from_snapshot);
    }

    /// Adds what a process has told at its end, and tells the log; `exec` is empty for that of the task
    /// itself.
    pub(crate) fn add_end(&mut self, task: &str, exec: &str, status: u32, told: Option<Counts>) {
        let Some(counts) = told else {
            self.killed += 1;
            log::info!(task, exec, status; "end");
            return;
        };
        let Counts { micro_vms, doorbell_exits, interrupted_exits, faults } = counts;
        log::info!(
            task, exec, status, micro_vms, doorbell_exits, interrupted_exits, faults; "end"
        );
        self.counts.add(counts);
    }

    /// The sums as metrics.
    pub(crate) fn sums(&self) -> Vec<Sum> {
        let Self {
            tasks,
            execs,
            compilations,
            snapshot_hits,
            snapshot_misses,
            killed,
            counts: Counts { micro_vms, doorbell_exits, interrupted_exits, faults },
        } = *self;
        let sum = |name, help, sum| Sum { name, help, samples: vec![("", sum)] };
        let mut sums = vec![
            sum("tasks_total", "Tasks that were created.", tasks),
            sum("execs_total", "Execs that were started in containers.", execs),
            sum("compilations_total", "Starts that had to compile their program.", compilations),
            sum("snapshot_hits_total", "Starts that have found a snapshot.", snapshot_hits),
            sum("snapshot_misses_total", "Starts that have found no snapshot.", snapshot_misses),
            sum(
                "killed_total",
                "Tasks and execs that were killed before they could count.",
                killed,
            ),
            sum("micro_vms_total", "Micro-VMs that were made.", micro_vms),
            sum("faults_total", "Runs that ended by a fault of the guest.", faults),
        ];
        sums.push(Sum {
            name: "vm_exits_total",
            help: "VM exits: doorbell is a host call, interrupted a signal.",
            samples: vec![
                (r#"{kind="doorbell"}"#, doorbell_exits),
                (r#"{kind="interrupted"}"#, interrupted_exits),
            ],
        });
        sums
    }

    /// Tells the log.
    pub(crate) fn log(&self) {
        let Self {
            tasks,
            execs,
            compilations,
            snapshot_hits,
            snapshot_misses,
            killed,
            counts: Counts { micro_vms, doorbell_exits, interrupted_exits, faults },
        } = *self;
        log::info!(
            tasks, execs, compilations, snapshot_hits, snapshot_misses, killed, micro_vms,
            doorbell_exits, interrupted_exits, faults; "totals"
        );
    }
}

/// A sum as a metric of Prometheus.
#[derive(Debug)]
pub(crate) struct Sum {
    /// Its name, without that of the runtime.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) help: &'static str,
    /// Labels in braces, or nothing, and the number for each.
    pub(crate) samples: Vec<(&'static str, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(number: u64) -> Counts {
        Counts {
            micro_vms: number,
            doorbell_exits: number,
            interrupted_exits: number,
            faults: number,
        }
    }

    #[test]
    fn totals_are_the_sums_of_what_tasks_and_execs_tell() {
        let mut totals = Totals::default();
        totals.add_task(Origins { compiled: true, from_snapshot: false });
        totals.add_exec(Origins { compiled: false, from_snapshot: true });
        totals.add_end("t", "", 0, Some(counts(1)));
        totals.add_end("t", "e", 137, None);
        totals.add_end("t", "f", 0, Some(counts(u64::MAX)));

        let expected = Totals {
            tasks: 1,
            execs: 1,
            compilations: 1,
            snapshot_hits: 1,
            snapshot_misses: 1,
            killed: 1,
            counts: counts(u64::MAX),
        };
        assert_eq!(totals, expected);
    }

    #[test]
    fn a_run_that_was_stopped_has_no_fault() {
        let mut counts = Counts::default();
        let mut stats = RunStats::default();
        stats.doorbell_exits = 3;

        counts.add_run(&Exit::Status(1), &stats);
        counts.add_run(&Exit::Fault(Fault::Stopped), &stats);
        counts.add_run(&Exit::Fault(Fault::TripleFault), &stats);

        assert_eq!((counts.doorbell_exits, counts.faults), (9, 1));
    }
}
