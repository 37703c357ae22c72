//! A task that serves HTTP requests: its port, its micro-VMs, and its end.
//!
//! Rule: the port is bound before the task says that it is ready, so that a port that is taken is an error
//! of its creation; it is opened (listen(2)) when the component is loaded, so that whoever can connect is
//! served. The first SIGTERM or SIGINT closes it: what is in flight is finished, for at most
//! [`Serving::drain`], and the status is 0. A second one ends the task at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::costs::Costs;
use super::pool::Pool;
use super::server::{self, Limits, raise_descriptor_limit};
use super::serving::Serving;
use crate::microvm::{RunError, Source};
use crate::workload::Workload;

/// Connections that may wait to be accepted; the kernel takes no more than `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// How long micro-VMs have to end once every connection has: what they still do has no client.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Statuses of a task that was told twice to end: 128 + the signal.
const STATUS_INTERRUPTED: u8 = 130;
const STATUS_TERMINATED: u8 = 143;

/// Why requests cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The port cannot be had.
    #[error(
        "listen on {addr}; another port is chosen by --addr, or for a container by the variable PORT or \
         the annotation io.hyperlight.http.addr"
    )]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The runtime of the server could not be made.
    #[error("start the HTTP server")]
    Runtime(#[source] io::Error),
}

/// A component that is loaded, and a port that is not open.
#[derive(Debug)]
pub struct Service {
    source: Source,
    workload: Workload,
    port: Port,
    costs: Arc<Costs>,
}

/// A port that is bound, and not open.
#[derive(Debug)]
pub struct Port {
    serving: Serving,
    socket: TcpSocket,
    addr: SocketAddr,
}

impl Port {
    /// Binds the port that `serving` names.
    ///
    /// As many connections may be open as the process may have descriptors.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Listen`].
    pub fn bind(serving: &Serving) -> Result<Self, ServiceError> {
        raise_descriptor_limit();
        let listen = |source| ServiceError::Listen { addr: serving.addr, source };
        let socket = bind(serving.addr).map_err(listen)?;
        let addr = socket.local_addr().map_err(listen)?;
        Ok(Self { serving: serving.clone(), socket, addr })
    }

    /// Where connections will be taken.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Service {
    /// The component of `source`, at `port`.
    #[must_use]
    pub fn new(source: Source, workload: Workload, port: Port) -> Self {
        Self { source, workload, port, costs: Arc::default() }
    }

    /// What its micro-VMs are started from.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// What its requests cost, while it serves and after.
    #[must_use]
    pub fn costs(&self) -> Arc<Costs> {
        Arc::clone(&self.costs)
    }

    /// Serves until a signal ends it, and returns the status of the task. `listening` is called when the port
    /// is open.
    ///
    /// # Errors
    ///
    /// [`RunError::Service`].
    pub fn serve(self, listening: impl FnOnce()) -> Result<u8, RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ServiceError::Runtime)?;
        let status = self.serve_on(&runtime, listening)?;
        // A handler that does not end does not keep the task.
        runtime.shutdown_background();
        Ok(status)
    }

    fn serve_on(self, runtime: &Runtime, listening: impl FnOnce()) -> Result<u8, ServiceError> {
        let Self { source, workload, port: Port { serving, socket, addr }, costs } = self;
        let entered = runtime.enter();
        let mut signals = Signals::new().map_err(ServiceError::Runtime)?;
        let pool = Pool::new(source, workload, &serving, costs);
        pool.warm_up();
        let listener =
            socket.listen(BACKLOG).map_err(|source| ServiceError::Listen { addr, source })?;
        drop(entered);
        listening();
        let limits = Limits {
            request_timeout: serving.request_timeout,
            drain: serving.drain,
            ..Limits::default()
        };
        let requests = pool.clone();
        #[expect(clippy::result_large_err, reason = "the request goes back to where it was")]
        let submit = move |incoming| requests.submit(incoming);
        let status = runtime.block_on(async {
            let (told, is_told) = tokio::sync::oneshot::channel();
            let shutdown = async {
                // Whoever tells lives as long as this.
                let _ = is_told.await;
            };
            let ended = async {
                signals.next().await;
                let _ = told.send(());
                signals.next().await
            };
            tokio::select! {
                () = server::serve(listener, limits, submit, shutdown) => 0,
                status = ended => status,
            }
        });
        if status == 0 && !pool.close(Instant::now() + LAST_WORDS) {
            log::warn!("a handler went on after its request, and was ended");
        }
        Ok(status)
    }
}

/// The signals that end a service.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on they do not end the process by themselves.
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one, and returns the status that says so.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.terminate.recv() => STATUS_TERMINATED,
            _ = self.interrupt.recv() => STATUS_INTERRUPTED,
        }
    }
}

/// A socket at `addr`. Where there is no IPv6, every address of IPv6 is every address of IPv4.
fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let at = |addr: SocketAddr| {
        let socket = if addr.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
        // Of an earlier task, connections may still be ending.
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        Ok(socket)
    };
    let has_no_ipv6 = |error: &io::Error| {
        matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
    };
    match at(addr) {
        Err(error) if addr.is_ipv6() && addr.ip().is_unspecified() && has_no_ipv6(&error) => {
            at(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port()))
        }
        result => result,
    }
}
