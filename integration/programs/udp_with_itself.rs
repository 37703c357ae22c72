//! Speaks UDP with itself over loopback, by the standard library, and prints what each call gives.
//!
//! builds: rs_p2

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

fn main() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let left = UdpSocket::bind((ip, 0)).expect("bind");
        let right = UdpSocket::bind((ip, 0)).expect("bind");
        let (at_left, at_right) = (left.local_addr().unwrap(), right.local_addr().unwrap());
        let taken = UdpSocket::bind(at_left).map_err(|error| error.kind()).map(drop);
        println!("{ip}: the address is taken: {taken:?}");

        let mut buffer = [0; 100];
        left.set_nonblocking(true).expect("not blocking");
        let nothing = left.recv_from(&mut buffer).map_err(|error| error.kind());
        println!("nothing is there: {}", nothing == Err(ErrorKind::WouldBlock));
        left.set_nonblocking(false).expect("blocking");

        for text in ["one", "", "three"] {
            let sent = right.send_to(text.as_bytes(), at_left).expect("send");
            let (read, from) = left.recv_from(&mut buffer).expect("receive");
            println!("{sent} bytes sent, {read} received, from the sender: {}", from == at_right);
        }

        left.connect(at_right).expect("connect");
        println!("the peer is told: {}", left.peer_addr().expect("a peer") == at_right);
        left.send(b"to the peer").expect("send");
        let (read, _) = right.recv_from(&mut buffer).expect("receive");
        println!("the peer receives {:?}", String::from_utf8_lossy(&buffer[..read]));
        right.send_to(b"back", at_left).expect("send");
        let read = left.recv(&mut buffer).expect("receive");
        println!("back comes {:?}", String::from_utf8_lossy(&buffer[..read]));

        // The standard library has a name for the hops of IPv4 alone.
        if ip.is_ipv4() {
            right.set_ttl(7).expect("hops");
            println!("hops: {}", right.ttl().expect("hops"));
        }
        let long = right.send_to(&[0; 70_000], at_left).is_err();
        println!("a datagram is too long: {long}");
    }
}
