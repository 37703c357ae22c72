//! The one question to containerd's CRI: which handlers does it have?
//!
//! Source: Kubernetes CRI API, `runtime.v1.RuntimeService/Status` (k8s.io/cri-api, api.proto); containerd tells its
//! handlers since 2.0. Of the answer only they are read.

use std::path::Path;
use std::time::Duration;

use containerd_client::tonic::client::Grpc;
use containerd_client::tonic::codegen::http::uri::PathAndQuery;
use containerd_client::tonic::{Request, Status, transport};
use tonic_prost::ProstCodec;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// Nothing listens.
    #[error("connect to the CRI at {address}")]
    Connect {
        /// The socket.
        address: String,
        /// Why.
        source: transport::Error,
    },
    /// The call failed: containerd has no CRI, or the plugin did not come up with its configuration.
    #[error("ask the CRI for its runtime handlers: {}", .0.message())]
    Call(Box<Status>),
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, repeated, tag = "3")]
    runtime_handlers: Vec<RuntimeHandler>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeHandler {
    #[prost(string, tag = "1")]
    name: String,
}

/// The names of the handlers that the CRI at `socket` has.
///
/// # Errors
///
/// It does not answer.
pub(super) async fn handlers(socket: &Path) -> Result<Vec<String>, CriError> {
    let channel = containerd_client::connect(socket)
        .await
        .map_err(|source| CriError::Connect { address: socket.display().to_string(), source })?;
    let mut client = Grpc::new(channel);
    let refused = |status| CriError::Call(Box::new(status));
    client.ready().await.map_err(|error| refused(Status::from_error(error.into())))?;
    let path = PathAndQuery::from_static("/runtime.v1.RuntimeService/Status");
    let mut request = Request::new(StatusRequest {});
    request.set_timeout(LIMIT);
    let codec = ProstCodec::<StatusRequest, StatusResponse>::default();
    let answer = client.unary(request, path, codec).await.map_err(refused)?;
    Ok(answer.into_inner().runtime_handlers.into_iter().map(|it| it.name).collect())
}
