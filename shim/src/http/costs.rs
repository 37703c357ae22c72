//! What the requests of a task cost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use abi::Nr;
use vmm::{Exit, RunStats};

use crate::counts::Counts;

/// Sums over all requests that were handled. Read them when there are no more.
#[derive(Debug, Default)]
pub struct Costs(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    requests: u64,
    counts: Counts,
    /// By the numbers of host calls.
    calls: BTreeMap<u32, (Nr, u64)>,
}

impl Costs {
    /// Adds a micro-VM that was made.
    pub(super) fn add_micro_vm(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.micro_vms += 1;
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    /// Adds those of a request, which ended by `exit`.
    pub(super) fn add(&self, exit: &Exit, stats: &RunStats) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.requests += 1;
        sums.counts.add_run(exit, stats);
        for (nr, count) in stats.calls() {
            sums.calls.entry(nr as u32).or_insert((nr, 0)).1 += count;
        }
    }
}

impl fmt::Display for Costs {
    /// A line for each kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Sums { requests, counts, calls } = &*sums;
        let Counts { doorbell_exits, interrupted_exits, .. } = counts;
        let all: u64 = calls.values().map(|(_, count)| count).sum();
        let by_name: Vec<_> = calls.values().map(|(nr, count)| format!("{nr:?} {count}")).collect();
        writeln!(f, "requests    {requests}")?;
        writeln!(
            f,
            "VM exits    {doorbell_exits} by the doorbell, {interrupted_exits} by signals"
        )?;
        write!(f, "host calls  {all}: {}", by_name.join(", "))
    }
}
