//! A guest that is no micro-VM: a thread that makes the host calls of one.

use std::fs::File;
use std::os::fd::OwnedFd;

use abi::http::{ErrorCode, IncomingRequest, ResponseHead, decode_trailers, encode_trailers};
use abi::layout::CALL_DATA_BYTES;
use abi::{Errno, Handle, Request};
use vmm::host::http::Incoming;
use vmm::host::{Host, Stdio};

pub type Fields<'a> = &'a [(&'a str, &'a str)];

/// A request that a guest was given.
pub struct Given {
    pub host: Host,
    pub exchange: Handle,
    pub method: String,
    pub authority: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// What has come of the body.
    begun: Vec<u8>,
    is_complete: bool,
}

pub fn host() -> Host {
    let null = || -> OwnedFd {
        File::options().read(true).write(true).open("/dev/null").expect("open /dev/null").into()
    };
    Host::new(Stdio { stdin: null(), stdout: null(), stderr: null() }).expect("a host")
}

pub fn call(host: &mut Host, request: Request<'_>) -> Result<(u64, Vec<u8>), Errno> {
    let mut reply = vec![0; CALL_DATA_BYTES];
    let answer = host.call(request, &mut reply)?;
    reply.truncate(answer.data_bytes);
    Ok((answer.value, reply))
}

pub fn read(host: &mut Host, handle: Handle) -> Result<Vec<u8>, Errno> {
    let read = Request::Read { handle, offset: 0, len: 64 << 10, wait: true };
    call(host, read).map(|(_, data)| data)
}

pub fn write(host: &mut Host, handle: Handle, mut data: &[u8]) -> Result<(), Errno> {
    while !data.is_empty() {
        let (written, _) = call(host, Request::Write { handle, offset: 0, wait: true, data })?;
        data = &data[usize::try_from(written).expect("small")..];
    }
    Ok(())
}

/// The trailers of a body that was read to its end.
pub fn trailers(host: &mut Host, exchange: Handle) -> Vec<(String, String)> {
    let (value, data) = call(host, Request::Trailers { exchange }).expect("trailers");
    assert_eq!(value, 0, "an error");
    owned(&decode_trailers(&data).expect("trailers"))
}

pub fn owned(fields: &[(&[u8], &[u8])]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

pub fn bytes<'a>(fields: Fields<'a>) -> Vec<(&'a [u8], &'a [u8])> {
    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

impl Given {
    pub fn new(incoming: Incoming) -> Self {
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
    pub fn read(&mut self) -> Result<Vec<u8>, Errno> {
        match std::mem::take(&mut self.begun) {
            begun if begun.is_empty() && !self.is_complete => read(&mut self.host, self.exchange),
            begun => Ok(begun),
        }
    }

    /// The whole body.
    pub fn body(&mut self) -> Result<Vec<u8>, Errno> {
        let mut body = Vec::new();
        loop {
            let part = self.read()?;
            if part.is_empty() {
                return Ok(body);
            }
            body.extend(part);
        }
    }

    pub fn trailers(&mut self) -> Vec<(String, String)> {
        trailers(&mut self.host, self.exchange)
    }

    fn respond_with(&mut self, status: u16, headers: Fields<'_>, body: &[u8], finished: bool) {
        let head = ResponseHead { status, headers: bytes(headers) }.encode();
        let request = Request::Respond { exchange: self.exchange, finished, head: &head, body };
        call(&mut self.host, request).expect("respond");
    }

    /// Answers with a whole response.
    pub fn respond(&mut self, status: u16, headers: Fields<'_>, body: impl AsRef<[u8]>) {
        self.respond_with(status, headers, body.as_ref(), true);
    }

    /// Answers with a response whose body is to come.
    pub fn begin(&mut self, headers: Fields<'_>) {
        self.respond_with(200, headers, b"", false);
    }

    pub fn write(&mut self, data: impl AsRef<[u8]>) -> Result<(), Errno> {
        write(&mut self.host, self.exchange, data.as_ref())
    }

    pub fn finish(&mut self, trailers: Fields<'_>) {
        let trailers = encode_trailers(&bytes(trailers));
        let request = Request::Finish { exchange: self.exchange, trailers: &trailers };
        call(&mut self.host, request).expect("finish");
    }

    pub fn fail(&mut self, code: ErrorCode) {
        let error = code.alone().encode();
        let request = Request::Fail { exchange: self.exchange, error: &error };
        call(&mut self.host, request).expect("fail");
    }
}
