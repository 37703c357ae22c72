//! Writes 100000 numbered lines, far more than a pipe or a host call holds.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    for line in 0..100_000 {
        writeln!(output, "line {line}")?;
    }
    output.flush()
}
