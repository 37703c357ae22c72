//! A guest that is no micro-VM: a thread that makes the host calls of one.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use abi::http::{
    ErrorCode, HttpError, IncomingRequest, RequestHead, ResponseHead, decode_trailers,
    encode_trailers,
};
use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, FOREVER, Handle, PollEntry, Request, poll_events};
use shim::http::client::Client;
use vmm::host::http::{Failure, Incoming};
use vmm::host::{Host, Stdio};
use zerocopy::IntoBytes as _;

pub(crate) type Fields<'a> = &'a [(&'a str, &'a str)];

/// A request that a guest was given.
pub(crate) struct Given {
    pub(crate) host: Host,
    pub(crate) exchange: Handle,
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// What has come of the body.
    begun: Vec<u8>,
    is_complete: bool,
}

pub(crate) fn host() -> Host {
    let null = || -> OwnedFd {
        File::options().read(true).write(true).open("/dev/null").expect("open /dev/null").into()
    };
    Host::new(Stdio { stdin: null(), stdout: null(), stderr: null() }).expect("a host")
}

pub(crate) fn call(host: &mut Host, request: Request<'_>) -> Result<(u64, Vec<u8>), Errno> {
    let mut reply = vec![0; CALL_DATA_BYTES];
    let answer = host.call(request, &mut reply)?;
    reply.truncate(answer.data_bytes);
    Ok((answer.value, reply))
}

pub(crate) fn read(host: &mut Host, handle: Handle) -> Result<Vec<u8>, Errno> {
    let read = Request::Read { handle, offset: 0, len: 64 << 10, wait: true };
    call(host, read).map(|(_, data)| data)
}

pub(crate) fn write(host: &mut Host, handle: Handle, mut data: &[u8]) -> Result<(), Errno> {
    while !data.is_empty() {
        let (written, _) = call(host, Request::Write { handle, offset: 0, wait: true, data })?;
        data = &data[usize::try_from(written).expect("small")..];
    }
    Ok(())
}

/// The trailers of a body that was read to its end.
pub(crate) fn trailers(host: &mut Host, exchange: Handle) -> Vec<(String, String)> {
    let (value, data) = call(host, Request::Trailers { exchange }).expect("trailers");
    assert_eq!(value, 0, "an error");
    owned(&decode_trailers(&data).expect("trailers"))
}

pub(crate) fn owned(fields: &[(&[u8], &[u8])]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

pub(crate) fn bytes<'a>(fields: Fields<'a>) -> Vec<(&'a [u8], &'a [u8])> {
    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

/// A request that a guest makes.
pub(crate) struct Fetched {
    pub(crate) host: Host,
    pub(crate) exchange: Handle,
}

/// A method and an URI that may be no URI.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) method: &'a str,
    pub(crate) scheme: &'a str,
    pub(crate) authority: &'a str,
}

/// The longest waits, in milliseconds: for the connection, the first byte, and between bytes.
pub(crate) type Waits = [Option<u64>; 3];

impl Fetched {
    /// Begins a request for `/p?q` with a body to come.
    pub(crate) fn begin(
        client: &Client,
        target: Target<'_>,
        headers: Fields<'_>,
        waits: Waits,
    ) -> Self {
        let mut host = host();
        let client = client.clone();
        host.grant_http(Arc::new(move |outgoing| client.fetch(outgoing)));
        let Target { method, scheme, authority } = target;
        let head = RequestHead {
            method: method.as_bytes(),
            scheme: scheme.as_bytes(),
            authority: authority.as_bytes(),
            path_with_query: b"/p?q",
            headers: bytes(headers),
        };
        let head = head.encode();
        let [connect_ns, first_byte_ns, between_bytes_ns] =
            waits.map(|ms| ms.map_or(FOREVER, |ms| ms * 1_000_000));
        let request = Request::Fetch {
            finished: false,
            connect_ns,
            first_byte_ns,
            between_bytes_ns,
            head: &head,
            body: b"",
        };
        let (exchange, _) = call(&mut host, request).expect("fetch");
        Self { host, exchange: Handle(u32::try_from(exchange).expect("a handle")) }
    }

    /// A GET request.
    pub(crate) fn get(client: &Client, scheme: &str, authority: &str, waits: Waits) -> Self {
        let mut fetched =
            Self::begin(client, Target { method: "GET", scheme, authority }, &[], waits);
        fetched.finish(&[]);
        fetched
    }

    pub(crate) fn write(&mut self, data: impl AsRef<[u8]>) -> Result<(), Errno> {
        write(&mut self.host, self.exchange, data.as_ref())
    }

    pub(crate) fn finish(&mut self, trailers: Fields<'_>) {
        let trailers = encode_trailers(&bytes(trailers));
        let request = Request::Finish { exchange: self.exchange, trailers: &trailers };
        call(&mut self.host, request).expect("finish");
    }

    /// Waits for status and fields of the response, or for why there is none.
    pub(crate) fn head(&mut self) -> Result<(u16, Vec<(String, String)>), Failure> {
        let entry = PollEntry {
            handle: self.exchange.0,
            events: poll_events::READ,
            ..PollEntry::default()
        };
        let timeout_ns = 30_000_000_000;
        let poll = Request::Poll { timeout_ns, entries: entry.as_bytes() };
        assert_eq!(call(&mut self.host, poll).expect("poll").0, 1, "there is no response");
        let head = Request::Head { exchange: self.exchange };
        match call(&mut self.host, head).expect("a head") {
            (0, data) => {
                let head = ResponseHead::decode(&data).expect("a head");
                Ok((head.status, owned(&head.headers)))
            }
            (_, data) => Err(HttpError::decode(&data).expect("an error").into()),
        }
    }

    /// Why there is no response.
    pub(crate) fn error(&mut self) -> ErrorCode {
        self.head().expect_err("there is a response").code
    }

    /// The whole body, or why it broke off.
    pub(crate) fn body(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            match read(&mut self.host, self.exchange) {
                Ok(part) if part.is_empty() => return Ok(body),
                Ok(part) => body.extend(part),
                Err(errno) => {
                    assert_eq!(errno, Errno::ConnectionAborted);
                    let trailers = Request::Trailers { exchange: self.exchange };
                    let (value, data) = call(&mut self.host, trailers).expect("its end");
                    assert_eq!(value, 1, "an error");
                    return Err(HttpError::decode(&data).expect("an error").into());
                }
            }
        }
    }

    pub(crate) fn trailers(&mut self) -> Vec<(String, String)> {
        trailers(&mut self.host, self.exchange)
    }
}

impl Given {
    pub(crate) fn new(incoming: Incoming) -> Self {
        let mut host = host();
        let encoded = host.admit(incoming).expect("admit");
        let request = IncomingRequest::decode(&encoded).expect("a request");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self {
            host,
            exchange: request.exchange,
            method: text(request.head.method),
            authority: text(request.head.authority),
            path: text(request.head.path_with_query),
            headers: owned(&request.head.headers),
            begun: request.body.to_vec(),
            is_complete: request.is_complete,
        }
    }

    /// A piece of the body; empty at the end.
    pub(crate) fn read(&mut self) -> Result<Vec<u8>, Errno> {
        match std::mem::take(&mut self.begun) {
            begun if begun.is_empty() && !self.is_complete => read(&mut self.host, self.exchange),
            begun => Ok(begun),
        }
    }

    /// The whole body.
    pub(crate) fn body(&mut self) -> Result<Vec<u8>, Errno> {
        let mut body = Vec::new();
        loop {
            let part = self.read()?;
            if part.is_empty() {
                return Ok(body);
            }
            body.extend(part);
        }
    }

    pub(crate) fn trailers(&mut self) -> Vec<(String, String)> {
        trailers(&mut self.host, self.exchange)
    }

    fn respond_with(&mut self, status: u16, headers: Fields<'_>, body: &[u8], finished: bool) {
        let head = ResponseHead { status, headers: bytes(headers) }.encode();
        let request = Request::Respond { exchange: self.exchange, finished, head: &head, body };
        call(&mut self.host, request).expect("respond");
    }

    /// Answers with a whole response.
    pub(crate) fn respond(&mut self, status: u16, headers: Fields<'_>, body: impl AsRef<[u8]>) {
        self.respond_with(status, headers, body.as_ref(), true);
    }

    /// Answers with a response whose body is to come.
    pub(crate) fn begin(&mut self, headers: Fields<'_>) {
        self.respond_with(200, headers, b"", false);
    }

    pub(crate) fn write(&mut self, data: impl AsRef<[u8]>) -> Result<(), Errno> {
        write(&mut self.host, self.exchange, data.as_ref())
    }

    pub(crate) fn finish(&mut self, trailers: Fields<'_>) {
        let trailers = encode_trailers(&bytes(trailers));
        let request = Request::Finish { exchange: self.exchange, trailers: &trailers };
        call(&mut self.host, request).expect("finish");
    }

    pub(crate) fn fail(&mut self, code: ErrorCode) {
        let error = code.alone().encode();
        let request = Request::Fail { exchange: self.exchange, error: &error };
        call(&mut self.host, request).expect("fail");
    }
}
