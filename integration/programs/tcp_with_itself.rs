//! Speaks TCP with itself over loopback, by the standard library, and prints what each call gives.
//!
//! builds: rs_p2

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn main() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let listener = TcpListener::bind((ip, 0)).expect("bind");
        let address = listener.local_addr().expect("an address");
        println!("listening on {ip}, with a port: {}", address.port() != 0);

        listener.set_nonblocking(true).expect("not blocking");
        println!("nobody is there: {:?}", listener.accept().map_err(|error| error.kind()));
        listener.set_nonblocking(false).expect("blocking");

        let mut client = TcpStream::connect(address).expect("connect");
        let (mut server, from) = listener.accept().expect("accept");
        println!("the client's address is told: {}", from == client.local_addr().expect("local"));
        println!("the server's address is told: {}", client.peer_addr().expect("peer") == address);

        client.set_nodelay(true).expect("no delay");
        // The standard library has a name for the hops of IPv4 alone.
        if ip.is_ipv4() {
            client.set_ttl(42).expect("hops");
            println!("hops: {}", client.ttl().expect("hops"));
        }
        println!("no error: {:?}", client.take_error().expect("no error").is_none());

        client.write_all(b"question").expect("write");
        let mut buffer = [0; 100];
        let read = server.read(&mut buffer).expect("read");
        println!("the server reads {:?}", String::from_utf8_lossy(&buffer[..read]));
        server.write_all(b"answer").expect("write");
        let read = client.read(&mut buffer).expect("read");
        println!("the client reads {:?}", String::from_utf8_lossy(&buffer[..read]));

        client.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let late = client.read(&mut buffer).map_err(|error| error.kind());
        println!("late: {}", matches!(late, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)));

        client.shutdown(Shutdown::Write).expect("shut down");
        println!("the server reads the end: {:?}", server.read(&mut buffer).ok());
        server.write_all(b"more").expect("write");
        drop(server);
        let mut rest = String::new();
        client.set_read_timeout(None).expect("no timeout");
        client.read_to_string(&mut rest).expect("read to the end");
        println!("the client reads {rest:?} and the end");

        large(&listener, address);

        drop(listener);
        let refused = TcpStream::connect(address).map_err(|error| error.kind()).map(drop);
        println!("nobody listens: {refused:?}");
    }
    let elsewhere = TcpListener::bind("192.0.2.1:0").map_err(|error| error.kind()).map(drop);
    println!("nobody's address: {elsewhere:?}");
}

/// More than the kernel holds, both ways.
fn large(listener: &TcpListener, address: SocketAddr) {
    const BYTES: usize = 8 << 20;
    let mut client = TcpStream::connect(address).expect("connect");
    let (mut server, _) = listener.accept().expect("accept");
    client.set_nonblocking(true).expect("not blocking");
    server.set_nonblocking(true).expect("not blocking");
    let mut buffer = vec![0; 100_000];
    let (mut sent, mut sum, mut received) = (0, 0_u64, 0);
    while received < BYTES {
        if sent < BYTES {
            let piece: Vec<u8> = (sent..BYTES.min(sent + 100_000)).map(|at| at as u8).collect();
            match client.write(&piece) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("write: {error}"),
            }
        }
        match server.read(&mut buffer) {
            Ok(read) => {
                let right = buffer[..read].iter().zip(received..).all(|(byte, at)| *byte == at as u8);
                assert!(right, "after {received} bytes");
                sum += buffer[..read].iter().map(|byte| u64::from(*byte)).sum::<u64>();
                received += read;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("read: {error}"),
        }
    }
    println!("{received} bytes arrived in order, with the sum {sum}");
}
