//! The clocks of the host, sampled.
//!
//! Rule: both readings of a sample are taken one right after the other. The monotonic clock is
//! `CLOCK_MONOTONIC`: it is the clock in which the kernel counts the timeout of a poll, so a deadline
//! that the guest computes from a sample and the wait that serves it agree, across a suspended host too.

use abi::{ClockSample, Errno};
use rustix::fs::Timespec;
use rustix::time::{ClockId, clock_gettime};

use super::Answer;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Writes a [`ClockSample`] into `reply`.
///
/// # Errors
///
/// [`Errno::TooBig`] if it does not fit.
pub(super) fn sample(reply: &mut [u8]) -> Result<Answer, Errno> {
    let realtime_ns = nanoseconds(clock_gettime(ClockId::Realtime));
    let monotonic_ns = nanoseconds(clock_gettime(ClockId::Monotonic));
    Answer::of(&ClockSample { realtime_ns, monotonic_ns }, reply)
}

/// Nanoseconds since the zero of a clock; 0 for a time before it, saturating after the year 2554.
pub(super) fn nanoseconds(time: Timespec) -> u64 {
    match (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec)) {
        (Ok(seconds), Ok(rest)) => seconds.saturating_mul(NS_PER_SECOND).saturating_add(rest),
        _ => 0,
    }
}

/// The span of `ns` nanoseconds.
pub(super) fn timespec(ns: u64) -> Timespec {
    // Neither cast can wrap: u64::MAX nanoseconds are less than 2^35 seconds.
    Timespec {
        tv_sec: (ns / NS_PER_SECOND).cast_signed(),
        tv_nsec: (ns % NS_PER_SECOND).cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_epoch_is_zero() {
        assert_eq!(nanoseconds(Timespec { tv_sec: -1, tv_nsec: 999_999_999 }), 0);
    }

    #[test]
    fn a_time_beyond_the_range_saturates() {
        assert_eq!(nanoseconds(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }), u64::MAX);
    }

    #[test]
    fn a_span_survives_both_conversions() {
        for ns in [0, 1, 999_999_999, 1_000_000_000, u64::MAX] {
            assert_eq!(nanoseconds(timespec(ns)), ns);
        }
    }
}
