//! Options of sockets.

use super::*;

const SECOND: u64 = 1_000_000_000;

#[test]
fn options_are_kept() {
    for family in BOTH {
        let mut guest = guest();
        let handle = guest.stream(family);
        let values = [
            (SocketOption::KeepAlive, 1),
            (SocketOption::KeepAliveIdle, 90 * SECOND),
            (SocketOption::KeepAliveInterval, 7 * SECOND),
            (SocketOption::KeepAliveCount, 3),
            (SocketOption::HopLimit, 42),
            (SocketOption::ReceiveBuffer, 16 << 10),
            (SocketOption::SendBuffer, 32 << 10),
            (SocketOption::KeepAlive, 0),
        ];
        for (option, value) in values {
            assert_eq!(guest.set_option(handle, option, value), Ok(0), "{option:?}");
            assert_eq!(guest.option(handle, option), Ok(value), "{option:?}");
        }
    }
}

#[test]
fn datagram_sockets_have_hop_limit_and_buffers() {
    for family in BOTH {
        let mut guest = guest();
        let handle = guest.datagram(family);
        let values = [
            (SocketOption::HopLimit, 1),
            (SocketOption::ReceiveBuffer, 8 << 10),
            (SocketOption::SendBuffer, 8 << 10),
        ];
        for (option, value) in values {
            assert_ne!(guest.option(handle, option), Ok(0), "{option:?} has a default");
            assert_eq!(guest.set_option(handle, option, value), Ok(0), "{option:?}");
            assert_eq!(guest.option(handle, option), Ok(value), "{option:?}");
        }
    }
}

#[test]
fn values_that_mean_nothing_are_refused() {
    let mut guest = guest();
    for family in BOTH {
        let handle = guest.stream(family);
        let values = [
            (SocketOption::KeepAlive, 2),
            (SocketOption::KeepAliveIdle, 0),
            (SocketOption::KeepAliveInterval, 0),
            (SocketOption::KeepAliveCount, 0),
            (SocketOption::HopLimit, 0),
            (SocketOption::HopLimit, 256),
            (SocketOption::HopLimit, u64::MAX),
            (SocketOption::ReceiveBuffer, 0),
            (SocketOption::SendBuffer, 0),
        ];
        for (option, value) in values {
            let refused = guest.set_option(handle, option, value);
            assert_eq!(refused, Err(Errno::Invalid), "{option:?} {value}");
        }
    }
}

#[test]
fn values_that_the_kernel_cannot_keep_become_the_nearest() {
    let mut guest = guest();
    let handle = guest.stream(Family::V4);
    let values = [
        (SocketOption::KeepAliveIdle, 1, SECOND),
        (SocketOption::KeepAliveIdle, SECOND + 1, 2 * SECOND),
        (SocketOption::KeepAliveIdle, u64::MAX, 32767 * SECOND),
        (SocketOption::KeepAliveInterval, u64::MAX, 32767 * SECOND),
        (SocketOption::KeepAliveCount, u64::MAX, 127),
    ];
    for (option, value, kept) in values {
        assert_eq!(guest.set_option(handle, option, value), Ok(0), "{option:?} {value}");
        assert_eq!(guest.option(handle, option), Ok(kept), "{option:?} {value}");
    }
    for option in [SocketOption::ReceiveBuffer, SocketOption::SendBuffer] {
        assert_eq!(guest.set_option(handle, option, 1), Ok(0));
        let least = guest.option(handle, option).expect("option");
        assert_eq!(guest.set_option(handle, option, u64::MAX), Ok(0));
        let most = guest.option(handle, option).expect("option");
        assert!(1 < least && least < most, "{option:?}: {least} to {most}");
    }
}

#[test]
fn the_pending_error_cannot_be_set() {
    let mut guest = guest();
    let handle = guest.stream(Family::V4);
    assert_eq!(guest.set_option(handle, SocketOption::Error, 0), Err(Errno::NotPermitted));
}

#[test]
fn an_accepted_connection_has_the_options_of_its_listener() {
    let mut guest = guest();
    let (listener, at) = guest.listener(Family::V4);
    let values = [(SocketOption::KeepAliveIdle, 90 * SECOND), (SocketOption::HopLimit, 42)];
    for (option, value) in values {
        assert_eq!(guest.set_option(listener, option, value), Ok(0));
    }
    let _client = std::net::TcpStream::connect(at).expect("connect");
    let (handle, _) = guest.accept_next(listener);
    for (option, value) in values {
        assert_eq!(guest.option(handle, option), Ok(value), "{option:?}");
    }
}
