//! The guest's lines on their way to the host's log.
//!
//! A guest may log as fast as it can make host calls; the host's log is a shared good. At most
//! [`LINES_PER_SECOND`] lines of one guest pass, the rest is counted and the count is logged.

use std::time::{Duration, Instant};

use abi::LogLevel;

use crate::exit::printable_line;

/// Lines of one guest that pass in a second: more than a person reads, less than a disk notices.
const LINES_PER_SECOND: u32 = 50;

/// The gate of one guest.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    /// When the first line came of those that are counted.
    window_start: Option<Instant>,
    passed: u32,
    dropped: u64,
}

impl LogGate {
    /// Logs one line of the guest, if it may pass.
    pub(crate) fn log(&mut self, level: LogLevel, message: &[u8], now: Instant) {
        let dropped = self.dropped;
        if !self.passes(now) {
            return;
        }
        if dropped > 0 {
            log::warn!(target: "guest", "{dropped} lines of the guest were dropped");
        }
        let level = match level {
            LogLevel::Error => log::Level::Error,
            LogLevel::Warn => log::Level::Warn,
            LogLevel::Info => log::Level::Info,
            LogLevel::Debug => log::Level::Debug,
        };
        log::log!(target: "guest", level, "{}", printable_line(message));
    }

    fn passes(&mut self, now: Instant) -> bool {
        let age = self.window_start.map(|start| now.duration_since(start));
        if age.is_none_or(|age| age >= Duration::from_secs(1)) {
            *self = Self { window_start: Some(now), ..Self::default() };
        }
        let passes = self.passed < LINES_PER_SECOND;
        self.passed += u32::from(passes);
        self.dropped += u64::from(!passes);
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_off_and_counted() {
        let start = Instant::now();
        let mut gate = LogGate::default();
        let passed = (0..1000).filter(|_| gate.passes(start)).count();
        assert_eq!((passed, gate.dropped), (LINES_PER_SECOND as usize, 950));
    }

    #[test]
    fn the_gate_opens_again_after_a_second() {
        let start = Instant::now();
        let mut gate = LogGate::default();
        (0..1000).for_each(|_| {
            gate.passes(start);
        });
        assert!(gate.passes(start + Duration::from_secs(1)));
    }
}
