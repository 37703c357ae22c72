//! Listens at the address that it is given, says which that became, and answers each line of each client
//! with the line and its number, until one says "end".
//!
//! builds: rs_p2

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_default();
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}", listener.local_addr()?);
    for client in listener.incoming() {
        let client = client?;
        let lines = BufReader::new(&client).lines();
        for (number, line) in lines.enumerate() {
            let line = line?;
            writeln!(&client, "{number} {line}")?;
            if line == "end" {
                return Ok(());
            }
        }
    }
    Ok(())
}
