//! Tells which of its standard streams are terminals.

use std::io::IsTerminal;

fn main() {
    let streams = [
        std::io::stdin().is_terminal(),
        std::io::stdout().is_terminal(),
        std::io::stderr().is_terminal(),
    ];
    for (stream, terminal) in streams.into_iter().enumerate() {
        println!("{stream}: {}", if terminal { "terminal" } else { "no terminal" });
    }
}
