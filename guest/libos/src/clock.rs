//! Time without leaving the guest: samples of the host's clocks, advanced by the TSC.
//!
//! Invariant: the monotonic clock never goes back, whatever a new sample says. A sample older than
//! [`SAMPLE_NS`] is renewed, so that an adjustment of the host's clock reaches the guest within that time.
#![expect(unsafe_code, reason = "reads the time-stamp counter")]
// UNSAFETY: RDTSC has no safe form.

use abi::{ClockSample, Errno, Request};
use zerocopy::FromBytes;

use crate::call::Calls;

/// Longest time in nanoseconds for which one sample serves.
const SAMPLE_NS: u64 = 1_000_000_000;

/// The guest's clocks.
#[derive(Debug)]
pub(crate) struct Clock {
    calls: Calls,
    tsc_khz: u64,
    sample: ClockSample,
    sampled_at_tsc: u64,
    latest_monotonic_ns: u64,
}

impl Clock {
    /// A clock on a TSC of `tsc_khz`; 0 asks the host at every reading.
    pub(crate) fn new(calls: Calls, tsc_khz: u64) -> Self {
        Self {
            calls,
            tsc_khz,
            sample: ClockSample::default(),
            sampled_at_tsc: 0,
            latest_monotonic_ns: 0,
        }
    }

    /// Goes on after a pause, on a TSC of `tsc_khz`: the next reading takes a new sample.
    pub(crate) fn restart(&mut self, tsc_khz: u64) {
        self.tsc_khz = tsc_khz;
        self.sample = ClockSample::default();
    }

    /// Nanoseconds since some moment before the start.
    pub(crate) fn monotonic_ns(&mut self) -> Result<u64, Errno> {
        let now = self.now()?.monotonic_ns;
        self.latest_monotonic_ns = self.latest_monotonic_ns.max(now);
        Ok(self.latest_monotonic_ns)
    }

    /// Nanoseconds since the Unix epoch.
    pub(crate) fn realtime_ns(&mut self) -> Result<u64, Errno> {
        Ok(self.now()?.realtime_ns)
    }

    fn now(&mut self) -> Result<ClockSample, Errno> {
        let elapsed_ns = self.elapsed_ns();
        match elapsed_ns {
            Some(elapsed_ns) if elapsed_ns < SAMPLE_NS => Ok(ClockSample {
                realtime_ns: self.sample.realtime_ns.saturating_add(elapsed_ns),
                monotonic_ns: self.sample.monotonic_ns.saturating_add(elapsed_ns),
            }),
            _ => {
                let sample = self
                    .calls
                    .call_with(&Request::Clock, |_, data| {
                        ClockSample::read_from_prefix(data).map(|(sample, _)| sample).ok()
                    })?
                    .ok_or(Errno::Io)?;
                self.sampled_at_tsc = tsc();
                self.sample = sample;
                Ok(sample)
            }
        }
    }

    /// Nanoseconds since the sample; `None` if there is no sample or no TSC to tell.
    fn elapsed_ns(&self) -> Option<u64> {
        if self.sample.monotonic_ns == 0 {
            return None;
        }
        let ticks = tsc().checked_sub(self.sampled_at_tsc)?;
        let ns = (u128::from(ticks) * 1_000_000).checked_div(u128::from(self.tsc_khz))?;
        u64::try_from(ns).ok()
    }
}

/// Reads the time-stamp counter.
fn tsc() -> u64 {
    // SAFETY: every x86-64 CPU has it, and CR4.TSD is clear in a micro-VM and in Linux processes
    // (SDM vol. 2, RDTSC).
    unsafe { core::arch::x86_64::_rdtsc() }
}
