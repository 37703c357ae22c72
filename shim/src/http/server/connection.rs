//! One connection of a client.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use vmm::host::http::Incoming;

use super::activity::Activity;
use super::{Limits, Refused, request};

/// The smallest buffer for what is read, and for what is written: what is too large for [`Limits`] is to
/// fit, so that its client is told what was too large.
const BUFFER_BYTES_MIN: usize = 128 << 10;

/// What of a response is taken from a program before its client takes it, on a stream of HTTP/2.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// What an HTTP/2 client may send ahead on a stream, and on all of them together.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// How often an HTTP/2 client is asked whether it is there, while a stream is open, and how long it may
/// take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long and how much is still read of a request that was answered before its end: a socket that is
/// closed with something unread resets the connection, and the answer is lost with it (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 << 20;

/// Serves `stream` to its end.
pub(super) async fn run<S>(
    stream: TcpStream,
    limits: Arc<Limits>,
    submit: S,
    mut closing: watch::Receiver<bool>,
) where
    S: Fn(Incoming) -> Result<(), Refused> + Clone + Send + Sync + 'static,
{
    // Latency is all that is lost without it.
    let _ = stream.set_nodelay(true);
    let stream = Arc::new(stream);
    let activity = Activity::new();
    let io = TokioIo::new(Watched { stream: stream.clone(), activity: activity.clone() });
    let service = service_fn({
        let (activity, limits) = (activity.clone(), limits.clone());
        move |request| {
            let (activity, limits, submit) = (activity.clone(), limits.clone(), submit.clone());
            async move {
                Ok::<_, Infallible>(request::answer(request, &activity, &limits, &submit).await)
            }
        }
    });
    let builder = builder(&limits);
    let mut has_failed = false;
    {
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut overdue = activity.overdue(&limits);
        let mut reset = pin!(stream.ready(Interest::ERROR));
        let mut is_closing = false;
        loop {
            tokio::select! {
                biased;
                result = &mut connection => {
                    if let Err(error) = result {
                        log::debug!("connection: {error}");
                        has_failed = true;
                    }
                    break;
                }
                _ = &mut reset => return,
                _ = closing.wait_for(|close| *close), if !is_closing => {}
                () = &mut overdue => {
                    if is_closing {
                        return;
                    }
                }
            }
            is_closing = true;
            overdue.begin_closing();
            connection.as_mut().graceful_shutdown();
        }
    }
    if activity.is_to_be_reset() {
        // Without it the connection ends in order, which is the best that is left.
        let _ = stream.set_zero_linger();
    } else if has_failed || activity.has_unread_body() {
        // Whoever is gone does not read what was said.
        let _ = rustix::net::shutdown(&stream, rustix::net::Shutdown::Write);
        let _ = timeout(LINGER, discard(&stream)).await;
    }
}

fn builder(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let header_bytes = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
    let buffer_bytes = header_bytes.saturating_add(limits.target_bytes).max(BUFFER_BYTES_MIN);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .half_close(true)
        .header_read_timeout(None) // see `Activity`
        .max_buf_size(buffer_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Reads what comes, up to the end of the stream.
async fn discard(stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut left = LINGER_BYTES;
    while left > 0 {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => left = left.saturating_sub(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A stream, and what is read from it noted.
struct Watched {
    stream: Arc<TcpStream>,
    activity: Arc<Activity>,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {
                    self.activity.note_read();
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shutdown = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write);
        Poll::Ready(shutdown.map_err(io::Error::from))
    }
}
