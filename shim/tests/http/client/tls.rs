//! The client with TLS.

use std::fs;
use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::Arc;

use abi::http::ErrorCode;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::client_in;
use crate::guest::Fetched;

/// A server for `a.test`, and a root file system whose bundle has its authority.
struct Server {
    port: u16,
    root: TempDir,
}

fn serve(alpn: &[&[u8]]) -> Server {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["a.test".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");

    let root = TempDir::new().expect("temporary directory");
    fs::create_dir_all(root.path().join("etc/ssl/certs")).expect("create directory");
    let bundle = root.path().join("etc/ssl/certs/ca-certificates.crt");
    fs::write(bundle, authority.pem()).expect("write");

    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("an address").port();
    listener.set_nonblocking(true).expect("set non-blocking");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(accept(listener, Arc::new(config)));
    });
    Server { port, root }
}

async fn accept(listener: std::net::TcpListener, config: Arc<ServerConfig>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        let acceptor = TlsAcceptor::from(config.clone());
        tokio::spawn(async move {
            // A client that does not trust this one goes.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request: Request<Incoming>| async move {
                let text = format!("{:?}", request.version());
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(text))))
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn get(root: Option<PathBuf>, authority: &str) -> Fetched {
    Fetched::get(&client_in(root), "https", authority, [None; 3])
}

#[test]
fn a_server_is_trusted_by_the_bundle_of_the_root_file_system() {
    let server = serve(&[]);
    let root = Some(server.root.path().to_owned());
    let mut fetched = get(root, &format!("a.test:{}", server.port));
    assert_eq!(fetched.head().expect("a response").0, 200);
    assert_eq!(fetched.body(), Ok(b"HTTP/1.1".to_vec()));
}

#[test]
fn a_server_that_agrees_is_spoken_to_in_http_2() {
    let server = serve(&[b"h2", b"http/1.1"]);
    let root = Some(server.root.path().to_owned());
    let mut fetched = get(root, &format!("a.test:{}", server.port));
    assert_eq!(fetched.head().expect("a response").0, 200);
    assert_eq!(fetched.body(), Ok(b"HTTP/2.0".to_vec()));
}

#[test]
fn a_server_of_an_unknown_authority_is_not_trusted() {
    let server = serve(&[]);
    let mut fetched = get(None, &format!("a.test:{}", server.port));
    assert_eq!(fetched.error(), ErrorCode::TlsCertificateError);
}

#[test]
fn a_server_of_another_name_is_not_trusted() {
    let server = serve(&[]);
    let root = Some(server.root.path().to_owned());
    let mut fetched = get(root, &format!("b.test:{}", server.port));
    assert_eq!(fetched.error(), ErrorCode::TlsCertificateError);
}

#[test]
fn a_server_that_agrees_to_no_protocol_sends_an_alert() {
    let server = serve(&[b"spdy/1"]);
    let root = Some(server.root.path().to_owned());
    let mut fetched = get(root, &format!("a.test:{}", server.port));
    let failure = fetched.head().expect_err("there is a response");
    assert_eq!((failure.code, failure.number), (ErrorCode::TlsAlertReceived, Some(120)));
}

#[test]
fn a_server_without_tls_is_a_breach_of_the_protocol() {
    let server = super::server(|mut raw| {
        raw.send("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    assert_eq!(get(None, &format!("a.test:{server}")).error(), ErrorCode::TlsProtocolError);
}

#[test]
fn a_server_that_hangs_up_in_the_handshake_ends_the_connection() {
    let server = super::server(|mut raw| {
        raw.stream.fill_buf().expect("a hello");
    });
    let mut fetched = get(None, &format!("a.test:{server}"));
    assert_eq!(fetched.error(), ErrorCode::ConnectionTerminated);
}
