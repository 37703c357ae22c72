//! Writes to both standard streams and keeps them apart.

fn main() {
    println!("to standard output");
    eprintln!("to standard error");
}
