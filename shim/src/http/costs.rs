//! What the requests of a task cost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use abi::Nr;
use vmm::RunStats;

/// Sums over all requests that were handled. Read them when there are no more.
#[derive(Debug, Default)]
pub struct Costs(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    requests: u64,
    doorbell_exits: u64,
    interrupted_exits: u64,
    /// By the numbers of host calls.
    calls: BTreeMap<u32, (Nr, u64)>,
}

impl Costs {
    /// Adds those of a request.
    pub(super) fn add(&self, stats: &RunStats) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.requests += 1;
        sums.doorbell_exits += stats.doorbell_exits;
        sums.interrupted_exits += stats.interrupted_exits;
        for (nr, count) in stats.calls() {
            sums.calls.entry(nr as u32).or_insert((nr, 0)).1 += count;
        }
    }
}

impl fmt::Display for Costs {
    /// A line for each kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Sums { requests, doorbell_exits, interrupted_exits, calls } = &*sums;
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
