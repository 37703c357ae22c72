//! Says that it sleeps, sleeps for two seconds, and says so again until its input ends.

use std::time::Duration;

fn main() -> std::io::Result<()> {
    println!("asleep");
    std::thread::sleep(Duration::from_secs(2));
    println!("awake");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
