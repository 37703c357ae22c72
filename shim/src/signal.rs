//! Signals by their number, as containerd names them.
//!
//! Rule: what the kernel knows can be sent, real-time signals included (signal(7)).
#![expect(unsafe_code, reason = "a real-time signal has a number and no name")]
// UNSAFETY: the library makes named signals of numbers only; the others are reserved to a process's own libc,
// which is a matter of whoever receives one.

use std::num::NonZeroI32;

use rustix::process::Signal;

/// The last signal: `_NSIG` of the kernel.
const LAST: u32 = 64;

/// The signal of that number; none if the kernel has none.
#[must_use]
pub fn of_number(number: u32) -> Option<Signal> {
    let number = i32::try_from(number).ok().filter(|_| number <= LAST).and_then(NonZeroI32::new)?;
    // SAFETY: the kernel knows the number. The signal is not caught, blocked or sent to this process,
    // whose libc reserves some: it goes to the processes of a container.
    Some(unsafe { Signal::from_raw_nonzero_unchecked(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signals_are_1_to_64() {
        let known: Vec<u32> = (0..=100).filter(|number| of_number(*number).is_some()).collect();
        assert_eq!(known, (1..=64).collect::<Vec<_>>());
        assert_eq!(of_number(u32::MAX), None);
        assert_eq!(of_number(9), Some(Signal::KILL));
    }
}
