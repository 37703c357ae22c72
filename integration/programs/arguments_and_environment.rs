//! Prints its arguments and its environment, one a line, without the program's own name.

fn main() {
    for argument in std::env::args().skip(1) {
        println!("argument {argument}");
    }
    for (name, value) in std::env::vars() {
        println!("environment {name}={value}");
    }
}
