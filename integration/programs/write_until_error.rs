//! Writes a million numbered lines, or as many as its argument says, and exits with 3 at the first error,
//! which it tells.

use std::io::Write;

fn main() {
    let lines = std::env::args().nth(1).and_then(|it| it.parse().ok()).unwrap_or(1_000_000);
    let mut output = std::io::stdout();
    for number in 0..lines {
        if let Err(error) = writeln!(output, "{number:07}") {
            eprintln!("{}", error.kind());
            std::process::exit(3);
        }
    }
}
