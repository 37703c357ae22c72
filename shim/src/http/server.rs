//! The HTTP server: connections of clients on one side, exchanges for micro-VMs on the other.
//!
//! Rule: a client gets a whole response, or sees that it did not. What ends by an error after its head was
//! sent ends its connection, or its stream, too. Whatever a client does is bounded by [`Limits`]: in bytes,
//! in time and in number; a client that is idle costs a connection and its buffers, and no thread.
//!
//! HTTP/1 with kept connections and HTTP/2 by prior knowledge share the port: the first bytes of a
//! connection tell (RFC 9113, 3.4).
//!
//! | Status | Means |
//! |---|---|
//! | 400 | the request is malformed |
//! | 408 | its body did not come in time |
//! | 413, 414, 431 | its body, its target or its header section is too large |
//! | 417, 501 | it expects something, or is a CONNECT |
//! | 500 | the program gave no response |
//! | 502, 504 | the program says that somebody behind it failed, or did not answer in time |
//! | 503 | there is no micro-VM for it |
//! | 504 | the program took too long |
//!
//! A client that only ends its own direction (shutdown(2)) still gets its response; one whose connection is
//! reset is gone, and with it what it asked for.

mod activity;
mod body;
mod connection;
mod request;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use vmm::host::http::Incoming;

/// How long is waited when the process or the machine has no descriptors or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is asked of clients, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections; more wait to be accepted. 16384: each costs a descriptor and a few KiB.
    pub connections: usize,
    /// Most bytes of a header section, names and values, and of trailers; at most 64 KiB go to a program.
    /// 32 KiB: more than other servers take.
    pub header_bytes: u32,
    /// Most bytes of a request's target. 16 KiB: half of the header section.
    pub target_bytes: usize,
    /// Most bytes of a request's body. None: a body is streamed, and costs nothing by being long.
    pub body_bytes: Option<u64>,
    /// Longest wait for a whole header section, from its first byte or the beginning of the connection on.
    /// 30 s: for slow networks, not for those who are slow on purpose.
    pub header_timeout: Duration,
    /// How long a connection is kept without a request. 75 s: longer than load balancers keep theirs (60 s),
    /// so that these never use one that is being closed.
    pub idle_timeout: Duration,
    /// Longest wait between two pieces of a request's body. 30 s.
    pub body_timeout: Duration,
    /// How long a client may take nothing of a response that waits for it; it is noticed before twice
    /// that. 60 s.
    pub write_timeout: Duration,
    /// Longest time from the request's head to the end of its response. None: that is the program's
    /// business.
    pub request_timeout: Option<Duration>,
    /// Most requests at a time on one HTTP/2 connection. 128: no fewer than 100 are recommended
    /// (RFC 9113, 6.5.2).
    pub streams: u32,
    /// How long requests in flight have, once the server is to end. 25 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16384,
            header_bytes: 32 << 10,
            target_bytes: 16 << 10,
            body_bytes: None,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            request_timeout: None,
            streams: 128,
            drain: super::DRAIN_DEFAULT,
        }
    }
}

/// There is no micro-VM for a request, which comes back.
#[derive(Debug)]
pub struct Refused(pub Incoming);

/// Serves the connections of `listener` until `shutdown` is done. Then it takes no more of them, and
/// returns when what is in flight is answered, or after [`Limits::drain`].
///
/// Each request goes to `submit`, which must not wait. A request that it took can still be refused
/// ([`Incoming::refuse`]).
pub async fn serve<S>(
    listener: TcpListener,
    limits: Limits,
    submit: S,
    shutdown: impl Future<Output = ()>,
) where
    S: Fn(Incoming) -> Result<(), Refused> + Clone + Send + Sync + 'static,
{
    let limits = Arc::new(limits);
    let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            // It is never closed, so there is a place at some time.
            let place = places.clone().acquire_owned().await;
            (place, accept(&listener).await)
        };
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            (place, stream) = accepted => {
                let (limits, submit) = (limits.clone(), submit.clone());
                let connection = connection::run(stream, limits, submit, closing.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    // Nobody listens where there is no connection.
    let _ = close.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.drain, drained).await.is_err() {
        log::warn!("{} connections were not done in time", connections.len());
        connections.shutdown().await;
    }
}

/// The next connection. What goes wrong with one of them does not keep the others away.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                log::warn!("accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the error is one of the connection that was to be accepted (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Lets this process have as many descriptors as it may: a connection is one.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("raise the limit of open files to {:?}: {error}", limit.maximum);
    }
}
