//! What a node tells Prometheus: `GET /metrics` in its text format, version 0.0.4.
//!
//! Rule: read when it is asked for, and true at that time. What cannot be found out (containerd does not answer, the cache
//! cannot be listed) is left out, never 0: a graph has a gap there. It has a thread of its own, because the
//! installer's waits for the programs that it runs. Clients are bounded in number and time, and no request is long.

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::running::{self, Running};
use crate::aot::{AotCache, Usage};
use crate::counts::{Sum, Totals};
use crate::error::line;

/// Most clients at once; more wait.
const CLIENTS_MAX: usize = 8;
/// How long a client has for its request and the answer.
const CLIENT_MAX: Duration = Duration::from_secs(30);
/// How long containerd may take to tell what runs: less than Prometheus waits (10 s).
const CONTAINERD_MAX: Duration = Duration::from_secs(5);
/// How long is waited when the process has no descriptors for a client.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The format's type (Prometheus' documentation, "Exposition formats").
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What came of the last look at the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Whether it is ready.
    pub(super) ready: bool,
    /// When that was.
    pub(super) at: SystemTime,
    /// How long the last micro-VM on trial took, if one has run since the process began.
    pub(super) trial: Option<Duration>,
}

/// Where the numbers come from.
#[derive(Debug)]
pub(super) struct Sources {
    /// containerd's socket.
    pub(super) socket: PathBuf,
    /// The cache of compiled programs.
    pub(super) cache: AotCache,
    /// Where shims that end leave their sums.
    pub(super) totals: PathBuf,
    /// `None` before the first look has ended.
    pub(super) look: Mutex<Option<Look>>,
}

impl Sources {
    /// A look at the node has ended, with the time of a micro-VM on trial if it is ready.
    pub(super) fn looked(&self, trial: Option<Duration>) {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let before = look.and_then(|look| look.trial);
        let (ready, at) = (trial.is_some(), SystemTime::now());
        *look = Some(Look { ready, at, trial: trial.or(before) });
    }
}

/// Serves on `listener` as long as the process lives.
///
/// # Errors
///
/// There is no thread or no runtime for it.
pub(super) fn serve(listener: TcpListener, sources: Arc<Sources>) -> io::Result<()> {
    let listener = listener.into_std()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => accept(listener, sources).await,
                Err(error) => log::warn!("serve metrics: {error}"),
            }
        });
    };
    std::thread::Builder::new().name("metrics".to_owned()).spawn(serve).map(drop)
}

async fn accept(listener: TcpListener, sources: Arc<Sources>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        // It is never closed, so there is a place at some time.
        let place = places.clone().acquire_owned().await;
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                log::debug!("accept a client of the metrics: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let sources = sources.clone();
        tokio::spawn(async move {
            // A client that is slow or gone is its own business.
            drop(timeout(CLIENT_MAX, connection(client, &sources)).await);
            drop(place);
        });
    }
}

async fn connection(client: TcpStream, sources: &Sources) -> hyper::Result<()> {
    let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), sources).await)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(client), service)
        .await
}

async fn answer(method: &Method, path: &str, sources: &Sources) -> Response<String> {
    let mut response = Response::new(String::new());
    if path != "/metrics" {
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = "metrics are at /metrics\n".to_owned();
    } else if !matches!(*method, Method::GET | Method::HEAD) {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    } else {
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        *response.body_mut() = Reading::of(sources).await.text();
    }
    response
}

/// What was read for one answer.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    look: Option<Look>,
    usage: Option<Usage>,
    cache_bytes_max: Option<u64>,
    running: Option<Running>,
    totals: Option<Totals>,
}

impl Reading {
    async fn of(sources: &Sources) -> Self {
        let running = timeout(CONTAINERD_MAX, running::count(&sources.socket)).await;
        Self {
            look: *sources.look.lock().unwrap_or_else(PoisonError::into_inner),
            usage: known("list the cache", sources.cache.usage()),
            cache_bytes_max: known("find the cache's bound", sources.cache.bytes_max()),
            running: running.ok().and_then(|running| known("ask containerd what runs", running)),
            totals: Totals::of_node(&sources.totals),
        }
    }

    fn text(&self) -> String {
        let mut text = Text::default();
        let version = format!(r#"{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
        text.family("build_info", GAUGE, "The installer's version.", [(&*version, 1)]);
        let ready = self.look.is_some_and(|look| look.ready);
        let help = "Whether the last look has found the node ready, with a micro-VM on trial.";
        text.number("node_ready", GAUGE, help, u64::from(ready));
        if let Some(look) = self.look {
            let help = "When the last look at the node has ended, since the Unix epoch.";
            let at = look.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            text.number("node_last_look_timestamp_seconds", GAUGE, help, at);
        }
        if let Some(trial) = self.look.and_then(|look| look.trial) {
            let help = "How long the last micro-VM on trial took, from its image to its end.";
            text.number("node_trial_duration_seconds", GAUGE, help, trial.as_secs_f64());
        }
        if let Some(usage) = self.usage {
            text.number("cache_programs", GAUGE, "Compiled programs in the cache.", usage.programs);
            let help = "Programs in the cache that have a snapshot.";
            text.number("cache_snapshots", GAUGE, help, usage.snapshots);
            text.number("cache_bytes", GAUGE, "Bytes of the cache on the disk.", usage.bytes);
        }
        if let Some(bytes) = self.cache_bytes_max {
            text.number("cache_limit_bytes", GAUGE, "Most bytes of the cache on the disk.", bytes);
        }
        if let Some(running) = self.running {
            let help = "Pods, and containers without a pod, that run with the runtime.";
            text.number("running_sandboxes", GAUGE, help, running.sandboxes);
            let help = "Tasks that run with the runtime, without those that hold pods.";
            text.number("running_tasks", GAUGE, help, running.tasks);
        }
        for sum in self.totals.iter().flat_map(Totals::sums) {
            let Sum { name, help, samples } = sum;
            let help = format!("{help} Of shims that have ended since the node has booted.");
            text.family(name, COUNTER, &help, samples.iter().map(|(labels, sum)| (*labels, sum)));
        }
        text.0
    }
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// The text that is told, a metric after the other.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    /// A metric of one number.
    fn number(&mut self, name: &str, kind: &str, help: &str, number: impl Display) {
        self.family(name, kind, help, [("", number)]);
    }

    /// A metric with its samples: labels in braces, or nothing, and the number of each.
    fn family<'a>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (&'a str, impl Display)>,
    ) {
        self.0 += &format!("# HELP hyperlight_{name} {help}\n# TYPE hyperlight_{name} {kind}\n");
        for (labels, number) in samples {
            self.0 += &format!("hyperlight_{name}{labels} {number}\n");
        }
    }
}

/// What is known; else the log is told why not.
fn known<T, E: std::error::Error>(what: &str, result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| log::debug!("{what}: {}", line(error))).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::compile::Compiler;

    fn look() -> Look {
        Look {
            ready: true,
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_500),
            trial: Some(Duration::from_millis(86)),
        }
    }

    /// A look, an empty cache, and a containerd that is not there.
    fn sources(dir: &Path) -> Sources {
        let cache = AotCache::new(dir.join("cache"), Compiler::this_executable());
        Sources {
            socket: dir.join("containerd.sock"),
            cache: cache.with_size(1 << 30),
            totals: dir.to_owned(),
            look: Mutex::new(Some(look())),
        }
    }

    /// Asks a server of these over TCP.
    async fn ask(request: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let sources = sources(dir.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, Arc::new(sources)).unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_scrape_finds_what_is_known_and_nothing_of_what_is_not() {
        let answer = ask("GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        for line in [
            "hyperlight_node_ready 1",
            "hyperlight_cache_programs 0",
            "hyperlight_cache_bytes 0",
            "hyperlight_cache_limit_bytes 1073741824",
        ] {
            assert!(body.lines().any(|it| it == line), "{line}: {body}");
        }
        for unknown in ["hyperlight_running", "_total"] {
            assert!(!body.contains(unknown), "{unknown}: {body}");
        }
    }

    #[tokio::test]
    async fn there_is_nothing_elsewhere_and_nothing_to_be_changed() {
        for (request, status) in
            [("GET / ", "404"), ("GET /metrics/x ", "404"), ("POST /metrics ", "405")]
        {
            let answer = ask(&format!("{request}HTTP/1.1\r\nHost: node\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        }
    }

    #[test]
    fn each_metric_has_a_help_a_type_and_its_numbers() {
        let reading = Reading {
            look: Some(look()),
            usage: Some(Usage { programs: 2, snapshots: 1, bytes: 4096 }),
            cache_bytes_max: Some(8192),
            running: Some(Running { sandboxes: 3, tasks: 5 }),
            totals: Some(Totals::default()),
        };
        let text = reading.text();
        let beginning = "\
            # HELP hyperlight_build_info The installer's version.\n\
            # TYPE hyperlight_build_info gauge\n";
        assert!(text.starts_with(beginning), "{text}");
        for line in [
            "hyperlight_node_last_look_timestamp_seconds 1700000000.5",
            "hyperlight_node_trial_duration_seconds 0.086",
            "hyperlight_cache_programs 2",
            "hyperlight_cache_snapshots 1",
            "hyperlight_cache_limit_bytes 8192",
            "hyperlight_running_sandboxes 3",
            "hyperlight_running_tasks 5",
            "# TYPE hyperlight_micro_vms_total counter",
            "hyperlight_vm_exits_total{kind=\"doorbell\"} 0",
            "hyperlight_vm_exits_total{kind=\"interrupted\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
        let mut described = Vec::new();
        for line in text.lines() {
            match line.strip_prefix("# HELP ").and_then(|it| it.split_once(' ')) {
                Some((name, help)) => {
                    assert!(!help.is_empty() && !described.contains(&name), "{line}");
                    described.push(name);
                }
                None => {
                    let name = line.strip_prefix("# TYPE ").unwrap_or(line);
                    let name = name.split(['{', ' ']).next();
                    assert_eq!(name, described.last().copied(), "{line}");
                }
            }
        }
    }

    #[test]
    fn a_node_that_is_not_ready_any_more_keeps_the_time_of_its_last_trial() {
        let sources = sources(tempfile::tempdir().unwrap().path());
        sources.looked(Some(Duration::from_secs(1)));
        sources.looked(None);
        let look = sources.look.lock().unwrap().unwrap();
        assert_eq!((look.ready, look.trial), (false, Some(Duration::from_secs(1))));
    }

    #[test]
    fn a_node_that_was_not_looked_at_yet_is_not_ready() {
        let text = Reading::default().text();
        assert!(text.contains("\nhyperlight_node_ready 0\n"), "{text}");
        assert!(!text.contains("last_look") && !text.contains("cache"), "{text}");
    }
}
