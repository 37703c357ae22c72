//! Connections to servers.
//!
//! Rule: a connection goes to an address that the program may reach, and nowhere else: whoever names the
//! addresses has asked the policy. The time for it is that of the request that needed it first.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use abi::http::ErrorCode;
use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vmm::host::http::Failure;

use super::Addresses;
use super::failure::{ConnectError, of_connect, of_handshake};
use super::tls;

/// How long an address is tried before the next one is tried beside it: what RFC 8305, 8 recommends.
const HEAD_START: Duration = Duration::from_millis(250);

/// Most addresses of a name that are tried. Each may have a descriptor at the same time.
const ADDRESSES_MAX: usize = 8;

/// Makes connections.
#[derive(Clone)]
pub(super) struct Connector(Arc<Shared>);

struct Shared {
    addresses: Addresses,
    root: Option<PathBuf>,
    /// How TLS is spoken, once it was needed; none if it cannot be.
    tls: OnceLock<Option<Arc<ClientConfig>>>,
}

/// How far a request has come.
pub(super) struct Progress {
    connect: Duration,
    phase: watch::Sender<Phase>,
}

#[derive(Clone, Copy)]
enum Phase {
    Connecting,
    /// There has been a connection since then.
    Waiting(Instant),
}

tokio::task_local! {
    /// The request on whose behalf a connection is made.
    static PROGRESS: Arc<Progress>;
}

impl Progress {
    /// Of a request that waits for `connect` for a connection.
    pub(super) fn new(connect: Duration) -> Self {
        Self { connect, phase: watch::channel(Phase::Waiting(Instant::now())).0 }
    }

    /// Does `request`, of which this is the progress.
    pub(super) async fn of<T>(self: Arc<Self>, request: impl Future<Output = T>) -> T {
        PROGRESS.scope(self, request).await
    }

    /// Is done when the response has not come within `first_byte` of the connection.
    pub(super) async fn is_late(&self, first_byte: Duration) {
        let mut phases = self.phase.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            let late = async {
                match phase {
                    Phase::Connecting => std::future::pending().await,
                    Phase::Waiting(since) => sleep_until(since + first_byte).await,
                }
            };
            tokio::select! {
                biased;
                // It goes on for as long as this is there.
                _ = phases.changed() => {}
                () = late => return,
            }
        }
    }
}

impl Connector {
    pub(super) fn new(addresses: Addresses, root: Option<PathBuf>) -> Self {
        Self(Arc::new(Shared { addresses, root, tls: OnceLock::new() }))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Transport>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let shared = self.0.clone();
        // A connection that is made for nobody any more has the time of whoever wanted it.
        let progress = PROGRESS.try_with(Arc::clone).ok();
        Box::pin(async move {
            let connect = progress.as_ref().map_or(super::CONNECT_MAX, |progress| progress.connect);
            let note = |phase| {
                if let Some(progress) = &progress {
                    progress.phase.send_replace(phase);
                }
            };
            note(Phase::Connecting);
            let connected = timeout(connect, shared.connect(&uri)).await;
            note(Phase::Waiting(Instant::now()));
            match connected {
                Ok(transport) => transport.map(TokioIo::new).map_err(ConnectError),
                Err(_) => Err(ErrorCode::ConnectionTimeout.into()),
            }
        })
    }
}

impl Shared {
    async fn connect(&self, uri: &Uri) -> Result<Transport, Failure> {
        let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().ok_or(ErrorCode::HttpRequestUriInvalid)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let addresses = (self.addresses)(host.to_owned(), port).await?;
        let stream = first(&addresses).await?;
        // Latency is all that is lost without it.
        let _ = stream.set_nodelay(true);
        if !is_tls {
            return Ok(Transport::Plain(stream));
        }
        let config = self.tls.get_or_init(|| match tls::config(self.root.as_deref()) {
            Ok(config) => Some(config),
            Err(error) => {
                log::warn!("prepare TLS: {error}");
                None
            }
        });
        let config = config.clone().ok_or(ErrorCode::InternalError)?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        stream.map(|stream| Transport::Tls(Box::new(stream))).map_err(|error| of_handshake(&error))
    }
}

/// A connection to whichever of `addresses` takes it first (RFC 8305, 5): one after the other is tried,
/// beside those that have neither succeeded nor failed after their head start. A failure is that of the last.
async fn first(addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut untried = in_turn(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = Failure::from(ErrorCode::DestinationNotFound);
    loop {
        match untried.next() {
            Some(address) => drop(attempts.spawn(TcpStream::connect(address))),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        tokio::select! {
            biased;
            Some(ended) = attempts.join_next() => match ended.unwrap_or_else(|error| Err(error.into())) {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = of_connect(&error),
            },
            () = sleep(HEAD_START), if untried.len() > 0 => {}
        }
    }
}

/// The best of `addresses`, those of the first one's family and of the other in turn (RFC 8305, 4).
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|address| address.is_ipv6() == is_v6);
    let both = (0..addresses.len()).flat_map(|at| [first.get(at), second.get(at)]);
    both.flatten().copied().take(ADDRESSES_MAX).collect()
}

/// A connection.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Transport {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) => Connected::new(),
            Self::Tls(stream) => match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Connected::new().negotiated_h2(),
                _ => Connected::new(),
            },
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
