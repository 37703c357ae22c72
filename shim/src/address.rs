//! The socket at which a shim is asked, and who removes it.
//!
//! Rule: a socket goes with the last task of its shim ([`crate::sandbox`]). That of a shim that was killed before is
//! removed by whoever comes to know of it: the start action, until the shim is ready; the VMM process that the shim
//! has started ahead, until it is given work; the delete action, which containerd runs once it has connected to the
//! shim.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a shim that is killed may take to hang up.
const HANGS_UP_WITHIN: Duration = Duration::from_millis(200);

/// The socket's path.
pub(crate) fn path(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}

/// Whether a shim answers at `socket`. The socket of one that is gone is removed. May take a moment if one answers.
pub(crate) fn is_served(socket: &Path) -> bool {
    is_served_for(socket, HANGS_UP_WITHIN)
}

/// Whether a shim answers, and does not hang up for as long as `limit`.
fn is_served_for(socket: &Path, limit: Duration) -> bool {
    match UnixStream::connect(socket) {
        Ok(shim) if !hangs_up(&shim, limit) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
            // Whatever else it is, it may be one that is busy.
            log::warn!("connect to {}: {error}", socket.display());
            true
        }
        Ok(_) | Err(_) => {
            remove(socket);
            false
        }
    }
}

/// Whether the shim hangs up without having been asked anything: it is about to end.
fn hangs_up(mut shim: &UnixStream, limit: Duration) -> bool {
    let limited = shim.set_read_timeout(Some(limit));
    match limited.and_then(|()| shim.read(&mut [0])) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
    }
}

/// Removes the socket, if it is there.
pub(crate) fn remove(socket: &Path) {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("remove {}: {error}", socket.display());
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_socket_of_a_shim_that_is_gone_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        assert!(!is_served(&socket));

        let listener = UnixListener::bind(&socket).unwrap();
        assert!(is_served(&socket));
        assert!(socket.exists());

        drop(listener);
        assert!(!is_served(&socket));
        assert!(!socket.exists());
    }

    #[test]
    fn a_shim_that_ends_while_it_is_looked_for_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let ending = std::thread::spawn(move || drop(listener.accept().unwrap()));

        // As long as a busy machine takes.
        assert!(!is_served_for(&socket, Duration::from_secs(60)));

        ending.join().unwrap();
        assert!(!socket.exists());
    }
}
