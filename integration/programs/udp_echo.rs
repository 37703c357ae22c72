//! Listens for datagrams at the address that it is given, says which that became, and sends each back to its
//! sender, the last one being "end".
//!
//! builds: rs_p2

use std::net::UdpSocket;

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_default();
    let socket = UdpSocket::bind(&address)?;
    println!("listening on {}", socket.local_addr()?);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (read, from) = socket.recv_from(&mut buffer)?;
        socket.send_to(&buffer[..read], from)?;
        if &buffer[..read] == b"end" {
            return Ok(());
        }
    }
}
