//! The HTTP client: requests of programs on one side, connections to servers on the other.
//!
//! Rule: whatever becomes of a request, its program is told by an error code of wasi:http that says what
//! failed. A program that gives a request up ends it. Nothing is started before the first request: then one
//! thread makes the requests of all micro-VMs of the process, and keeps their connections for the next.
//!
//! HTTP/2 where a server agrees to it in the TLS handshake (ALPN), else HTTP/1. Servers are trusted by the
//! roots of the system, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, and by the bundle in the
//! program's own root file system.

mod body;
mod connect;
mod failure;
mod tls;

pub(super) use tls::open_ahead;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use abi::http::{ErrorCode, HEAD_BYTES_MAX};
use hyper::body::Incoming as ResponseBody;
use hyper::http::uri::Scheme;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use vmm::host::http::{BodyWriter, Failure, Outgoing, ResponseWriter, Timeouts};

use self::body::RequestBody;
use self::connect::{Connector, Progress};
use crate::error::line;

/// Most requests of a process at a time. Each may have a descriptor.
const REQUESTS_MAX: usize = 1024;

/// Longest waits, where a program does not say how long it waits or says longer: two minutes for a
/// connection, as kernels take for one (tcp(7), `tcp_syn_retries`); ten for a server that computes.
const CONNECT_MAX: Duration = Duration::from_secs(120);
const FIRST_BYTE_MAX: Duration = Duration::from_secs(600);
const BETWEEN_BYTES_MAX: Duration = Duration::from_secs(600);

/// How long a connection is kept without a request: less than servers keep theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Most connections without a request that are kept to one server.
const IDLE_PER_SERVER_MAX: usize = 32;

/// Where a host, a name or an address, is to be found with a port; or why a program may not go there. The
/// best comes first.
pub type Addresses = Arc<dyn Fn(String, u16) -> Found + Send + Sync>;

/// What is found, in time.
pub type Found = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, Failure>> + Send>>;

/// What makes the requests of a process' programs. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    addresses: Addresses,
    root: Option<PathBuf>,
    running: OnceLock<Option<Running>>,
}

/// The thread that makes them.
struct Running {
    runtime: Handle,
    http: Pooled<Connector, RequestBody>,
    places: Arc<Semaphore>,
    /// Dropped with the client, to end the thread.
    _until: oneshot::Sender<()>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("root", &self.0.root).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that goes where `addresses` says. The bundle of certificates in `root`, the root file system
    /// of the programs, is trusted besides those of the system.
    #[must_use]
    pub fn new(addresses: Addresses, root: Option<PathBuf>) -> Self {
        Self(Arc::new(Shared { addresses, root, running: OnceLock::new() }))
    }

    /// Makes a request, without waiting: for [`Host::grant_http`](vmm::host::Host::grant_http).
    pub fn fetch(&self, outgoing: Outgoing) {
        let running = self.0.running.get_or_init(|| match self.0.start() {
            Ok(running) => Some(running),
            Err(error) => {
                log::warn!("start the HTTP client: {}", line(&error));
                None
            }
        });
        let Some(Running { runtime, http, places, .. }) = running else {
            return outgoing.response.fail(ErrorCode::InternalError.into());
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            return outgoing.response.fail(ErrorCode::ConnectionLimitReached.into());
        };
        let http = http.clone();
        runtime.spawn(async move {
            make(http, outgoing).await;
            drop(place);
        });
    }
}

impl Shared {
    fn start(&self) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (until, end) = oneshot::channel::<()>();
        let run = move || drop(runtime.block_on(end));
        std::thread::Builder::new().name("http-client".to_owned()).spawn(run)?;
        let connector = Connector::new(self.addresses.clone(), self.root.clone());
        let http = Pooled::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_SERVER_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http2_max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .build(connector);
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
        Ok(Running { runtime: handle, http, places, _until: until })
    }
}

/// Makes the request, and has its response go to the program.
async fn make(http: Pooled<Connector, RequestBody>, outgoing: Outgoing) {
    let Outgoing { head, timeouts, body, mut response } = outgoing;
    let request = match check(head) {
        Ok(head) => head.map(|()| RequestBody::new(body)),
        Err(failure) => return response.fail(failure),
    };
    let is_head = request.method() == Method::HEAD;
    let outcome = tokio::select! {
        biased;
        outcome = send(http, request, timeouts) => outcome,
        () = response.gone() => return,
    };
    match outcome.and_then(check_size) {
        Ok(answer) => receive(answer, response, timeouts, is_head).await,
        Err(failure) => response.fail(failure),
    }
}

/// Checks what the library would not.
fn check(head: Request<()>) -> Result<Request<()>, Failure> {
    let uri = head.uri();
    let has_user = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
    let code = if !matches!(uri.scheme(), Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)
    {
        ErrorCode::HttpProtocolError
    } else if has_user || uri.host().is_none_or(str::is_empty) {
        ErrorCode::HttpRequestUriInvalid
    } else if head.method() == Method::CONNECT {
        // What would come of it is no response.
        ErrorCode::HttpRequestMethodInvalid
    } else {
        return Ok(head);
    };
    Err(code.into())
}

async fn send(
    http: Pooled<Connector, RequestBody>,
    request: Request<RequestBody>,
    timeouts: Timeouts,
) -> Result<Response<ResponseBody>, Failure> {
    let first_byte = timeouts.first_byte.map_or(FIRST_BYTE_MAX, |first| first.min(FIRST_BYTE_MAX));
    let connect = timeouts.connect.map_or(CONNECT_MAX, |connect| connect.min(CONNECT_MAX));
    let progress = Arc::new(Progress::new(connect));
    let response = progress.clone().of(http.request(request));
    tokio::select! {
        biased;
        response = response => response.map_err(|error| failure::of_request(&error)),
        () = progress.is_late(first_byte) => Err(ErrorCode::HttpResponseTimeout.into()),
    }
}

fn check_size(response: Response<ResponseBody>) -> Result<Response<ResponseBody>, Failure> {
    match section_bytes(response.headers()) {
        bytes if bytes <= HEAD_BYTES_MAX => Ok(response),
        bytes => Err(too_large(ErrorCode::HttpResponseHeaderSectionSize, bytes)),
    }
}

/// What a section takes as it crosses: each field with two lengths.
fn section_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 8).sum::<usize>() + 8
}

fn too_large(code: ErrorCode, bytes: usize) -> Failure {
    Failure { number: Some(bytes as u64), ..code.into() }
}

/// Gives the program the response, and its body as it comes.
async fn receive(
    answer: Response<ResponseBody>,
    response: ResponseWriter,
    timeouts: Timeouts,
    is_head: bool,
) {
    let (parts, body) = answer.into_parts();
    let writer = response.respond(Response::from_parts(parts, ()));
    if is_head {
        return writer.finish(HeaderMap::new());
    }
    let between = timeouts.between_bytes.unwrap_or(BETWEEN_BYTES_MAX).min(BETWEEN_BYTES_MAX);
    move_body(body, writer, between).await;
}

async fn move_body(mut body: ResponseBody, mut writer: BodyWriter, between: Duration) {
    let mut trailers = HeaderMap::new();
    loop {
        let frame = tokio::select! {
            biased;
            frame = timeout(between, body::next(&mut body)) => frame,
            () = writer.gone() => return,
        };
        match frame {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    if writer.write(&data).await.is_err() {
                        return;
                    }
                }
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            },
            Ok(None) => {
                let bytes = section_bytes(&trailers);
                return if bytes > HEAD_BYTES_MAX {
                    writer.fail(too_large(ErrorCode::HttpResponseTrailerSectionSize, bytes));
                } else {
                    writer.finish(trailers);
                };
            }
            Ok(Some(Err(error))) => return writer.fail(failure::of_body(&error)),
            Err(_) => return writer.fail(ErrorCode::ConnectionReadTimeout.into()),
        }
    }
}
