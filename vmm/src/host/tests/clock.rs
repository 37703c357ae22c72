//! The clocks.

use abi::{ClockSample, Errno, Request};
use zerocopy::FromBytes as _;

use super::Guest;

#[test]
fn the_clocks_are_those_of_the_host() {
    let mut guest = Guest::new();
    let mut sample = || {
        let (_, data) = guest.ask(Request::Clock).expect("clock");
        ClockSample::read_from_bytes(&data).expect("a whole sample")
    };
    let since_epoch = |time: std::time::SystemTime| {
        time.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos()
    };
    let before = since_epoch(std::time::SystemTime::now());
    let (first, second) = (sample(), sample());
    let after = since_epoch(std::time::SystemTime::now());
    assert!((before..=after).contains(&u128::from(first.realtime_ns)));
    assert!(first.monotonic_ns > 0 && first.monotonic_ns <= second.monotonic_ns);
}

#[test]
fn a_sample_that_does_not_fit_is_refused() {
    let mut guest = Guest::new();
    assert_eq!(guest.host.call(Request::Clock, &mut [0; 15]), Err(Errno::TooBig));
}
