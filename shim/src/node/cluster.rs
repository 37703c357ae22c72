//! What the cluster is told of this node: a label where pods may be scheduled, a condition with the reason.
//!
//! Rule: three objects of the API are touched, each by one request of its own: this node, its status and, when
//! everything is uninstalled, the DaemonSet. The account is the pod's: its token and the cluster's certificate are read for each request,
//! because both are renewed while the pod runs.
//!
//! Source: Kubernetes API reference, Node and DaemonSet; "Accessing the Kubernetes API from a Pod".

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::fs::{Mode, OFlags, openat};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The label of nodes where pods with the RuntimeClass can run.
pub const READY_LABEL: &str = "io.hyperlight/ready";
/// The type of the node's condition.
pub const CONDITION: &str = "HyperlightReady";

/// Where kubelet mounts the pod's account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Longest time of a request.
const LIMIT: Duration = Duration::from_secs(30);
/// Most bytes of an answer: a node with many images has some 100 KiB.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Most bytes of a file of the account.
const FILE_BYTES_MAX: u64 = 1 << 20;

const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

/// Why the API could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// This is no pod with an account.
    #[error("{what}: the cluster can be told only from a pod that has a service account")]
    NoAccount {
        /// What is missing.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The API server's address is none.
    #[error("KUBERNETES_SERVICE_HOST={0:?} is not a host")]
    Host(String),
    /// No connection.
    #[error("connect to the API server at {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// TLS could not be set up.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    /// The request cannot be made.
    #[error("make the request {request}")]
    Request {
        /// Which.
        request: String,
        /// Why.
        source: hyper::http::Error,
    },
    /// The connection failed.
    #[error("{request}")]
    Http {
        /// Which.
        request: String,
        /// Why.
        source: hyper::Error,
    },
    /// The API server refused.
    #[error("{request}: {status}: {message}")]
    Refused {
        /// Which.
        request: String,
        /// Its answer.
        status: StatusCode,
        /// What it says.
        message: String,
    },
    /// The answer cannot be read.
    #[error("{request}: the answer is no JSON object")]
    Answer {
        /// Which.
        request: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The answer is too large.
    #[error("{request}: the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge {
        /// Which.
        request: String,
    },
    /// The API server hangs.
    #[error("{request}: no answer in {} s", LIMIT.as_secs())]
    Late {
        /// Which.
        request: String,
    },
}

/// The API of the cluster that this pod runs in.
#[derive(Debug)]
pub struct Cluster {
    host: String,
    port: u16,
    /// Open, because the root directory changes.
    account: OwnedFd,
}

impl Cluster {
    /// The cluster, by the environment and the account of this pod.
    ///
    /// # Errors
    ///
    /// This is no pod, or it has no account.
    pub fn of_pod() -> Result<Self, ClusterError> {
        let missing = |what| move |source| ClusterError::NoAccount { what, source };
        let variable =
            |name| std::env::var(name).map_err(|_| io::Error::from(io::ErrorKind::NotFound));
        let host =
            variable("KUBERNETES_SERVICE_HOST").map_err(missing("KUBERNETES_SERVICE_HOST"))?;
        let port =
            variable("KUBERNETES_SERVICE_PORT").map_err(missing("KUBERNETES_SERVICE_PORT"))?;
        let port =
            port.parse().map_err(io::Error::other).map_err(missing("KUBERNETES_SERVICE_PORT"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let account = rustix::fs::open(Path::new(ACCOUNT), flags, Mode::empty());
        let account = account.map_err(|errno| missing(ACCOUNT)(errno.into()))?;
        Ok(Self { host, port, account })
    }

    /// The namespace of this pod.
    ///
    /// # Errors
    ///
    /// The account does not say.
    pub fn namespace(&self) -> Result<String, ClusterError> {
        Ok(String::from_utf8_lossy(&self.file("namespace")?).trim().to_owned())
    }

    /// Tells the cluster of `node` whether pods may run there, with a reason (one word) and a message.
    ///
    /// # Errors
    ///
    /// The API server refuses.
    pub async fn tell(
        &self,
        node: &str,
        is_ready: bool,
        reason: &str,
        message: &str,
    ) -> Result<(), ClusterError> {
        let path = format!("/api/v1/nodes/{node}");
        // In this order no pod is scheduled before the node says that it is ready.
        if !is_ready {
            self.label(&path, false).await?;
        }
        let status = if is_ready { "True" } else { "False" };
        let object = self.call(Method::GET, &path, None).await?;
        let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let old = conditions.find(|it| it["type"] == CONDITION);
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let since = old
            .filter(|old| old["status"] == status)
            .and_then(|old| old["lastTransitionTime"].as_str())
            .unwrap_or(&now);
        let condition = json!({
            "type": CONDITION, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since,
        });
        let patch = json!({ "status": { "conditions": [condition] } });
        self.call(Method::PATCH, &format!("{path}/status"), Some((STRATEGIC, patch))).await?;
        if is_ready {
            self.label(&path, true).await?;
        }
        Ok(())
    }

    /// Removes the label of `node`, and where nothing is left to tell, the condition.
    ///
    /// # Errors
    ///
    /// The API server refuses.
    pub async fn forget(&self, node: &str) -> Result<(), ClusterError> {
        let path = format!("/api/v1/nodes/{node}");
        self.label(&path, false).await?;
        let gone = json!({ "$patch": "delete", "type": CONDITION });
        let patch = json!({ "status": { "conditions": [gone] } });
        self.call(Method::PATCH, &format!("{path}/status"), Some((STRATEGIC, patch))).await?;
        Ok(())
    }

    async fn label(&self, node: &str, is_ready: bool) -> Result<(), ClusterError> {
        let value = if is_ready { json!("true") } else { Value::Null };
        let patch = json!({ "metadata": { "labels": { READY_LABEL: value } } });
        self.call(Method::PATCH, node, Some((MERGE, patch))).await.map(drop)
    }

    /// Has the pods of the DaemonSet `name` uninstall instead of install, on all nodes at once.
    ///
    /// # Errors
    ///
    /// The API server refuses.
    pub async fn have_uninstall(&self, namespace: &str, name: &str) -> Result<(), ClusterError> {
        let verb = "/spec/template/spec/containers/0/args/1";
        let patch = json!([
            { "op": "replace", "path": verb, "value": "uninstall" },
            { "op": "replace", "path": "/spec/updateStrategy/rollingUpdate/maxUnavailable", "value": "100%" },
        ]);
        let path = daemon_set(namespace, name);
        self.call(Method::PATCH, &path, Some((JSON_PATCH, patch))).await.map(drop)
    }

    /// How many of the DaemonSet's pods are of its last template and ready, and of how many.
    ///
    /// # Errors
    ///
    /// The API server refuses.
    pub async fn rolled_out(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<(u64, u64), ClusterError> {
        let object = self.call(Method::GET, &daemon_set(namespace, name), None).await?;
        let status = &object["status"];
        let number = |name: &str| status[name].as_u64().unwrap_or(0);
        let nodes = number("desiredNumberScheduled");
        // What was seen by its controller counts only if that has seen the last template.
        let is_seen = status["observedGeneration"] == object["metadata"]["generation"];
        let done = number("updatedNumberScheduled").min(number("numberReady"));
        Ok((if is_seen { done } else { 0 }, if is_seen { nodes } else { nodes.max(1) }))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        patch: Option<(&'static str, Value)>,
    ) -> Result<Value, ClusterError> {
        let request = format!("{method} {path}");
        match tokio::time::timeout(LIMIT, self.answer(method, path, patch, &request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClusterError::Late { request }),
        }
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        patch: Option<(&'static str, Value)>,
        request: &str,
    ) -> Result<Value, ClusterError> {
        let token = String::from_utf8_lossy(&self.file("token")?).trim().to_owned();
        let mut call = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, format!("Bearer {token}"));
        let mut body = None;
        if let Some((kind, patch)) = patch {
            call = call.header(CONTENT_TYPE, kind);
            body = Some(Bytes::from(patch.to_string()));
        }
        let call = call
            .body(Whole(body))
            .map_err(|source| ClusterError::Request { request: request.to_owned(), source })?;
        let failed = |source| ClusterError::Http { request: request.to_owned(), source };
        let stream = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(stream).await.map_err(failed)?;
        let answer = async {
            let answer = sender.send_request(call).await.map_err(failed)?;
            let (head, mut body) = answer.into_parts();
            let mut bytes = Vec::new();
            while let Some(frame) =
                std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
            {
                let data = frame.map_err(failed)?.into_data().unwrap_or_default();
                if bytes.len() + data.len() > ANSWER_BYTES_MAX {
                    return Err(ClusterError::TooLarge { request: request.to_owned() });
                }
                bytes.extend_from_slice(&data);
            }
            Ok((head.status, bytes))
        };
        tokio::pin!(answer, connection);
        let (status, bytes) = tokio::select! {
            biased;
            answer = &mut answer => answer?,
            // It ends with the server's side; what is buffered is still read.
            ended = &mut connection => match ended {
                Ok(()) => answer.await?,
                Err(error) => return Err(failed(error)),
            },
        };
        let object: Result<Value, _> = serde_json::from_slice(&bytes);
        if !status.is_success() {
            // A Status object, or the text of something in between.
            let message = object.ok().and_then(|it| Some(it["message"].as_str()?.to_owned()));
            let message = message.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
            return Err(ClusterError::Refused { request: request.to_owned(), status, message });
        }
        object.map_err(|source| ClusterError::Answer { request: request.to_owned(), source })
    }

    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ClusterError> {
        let mut roots = RootCertStore::empty();
        let certificates = self.file("ca.crt")?;
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(&certificates).filter_map(Result::ok),
        );
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| ClusterError::Host(self.host.clone()))?;
        let failed = |source| {
            let address = format!("{}:{}", self.host, self.port);
            ClusterError::Connect { address, source }
        };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(failed)?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(failed)
    }

    fn file(&self, name: &'static str) -> Result<Vec<u8>, ClusterError> {
        let missing = |source| ClusterError::NoAccount { what: name, source };
        let file = openat(&self.account, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut bytes = Vec::new();
        let file = File::from(file.map_err(|errno| missing(errno.into()))?);
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(missing)?;
        Ok(bytes)
    }
}

fn daemon_set(namespace: &str, name: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}")
}

/// A body that is there as a whole.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
