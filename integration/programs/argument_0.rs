//! Prints the name that it was called by.

fn main() {
    println!("{}", std::env::args().next().unwrap_or_default());
}
