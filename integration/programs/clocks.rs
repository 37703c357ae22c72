//! The wall clock is of this century, the monotonic clock moves on by what is slept, at least.

use std::time::{Duration, Instant, SystemTime};

fn main() {
    let wall = SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970");
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    assert!(before.elapsed() >= Duration::from_millis(20));
    println!("{}", wall.as_secs());
}
