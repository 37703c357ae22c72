//! Connects to the address that it is given, sends what it reads, and prints what comes back.
//!
//! builds: rs_p2

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

fn main() {
    let address = std::env::args().nth(1).unwrap_or_default();
    let mut stream = match TcpStream::connect(&address) {
        Ok(stream) => stream,
        Err(error) => {
            println!("{:?}", error.kind());
            std::process::exit(1);
        }
    };
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).expect("read");
    stream.write_all(&input).expect("send");
    stream.shutdown(Shutdown::Write).expect("end");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("receive");
    print!("{reply}");
}
