//! A client that says exactly what it is told to.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Long enough for anything that is to come.
pub(crate) const HANG: Duration = Duration::from_secs(30);

pub(crate) struct Raw {
    pub(crate) stream: BufReader<TcpStream>,
}

/// A response, with its body as its framing delimits it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl Raw {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("connect");
        stream.set_read_timeout(Some(HANG)).expect("set timeout");
        stream.set_write_timeout(Some(HANG)).expect("set timeout");
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).expect("send");
        self
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    pub(crate) fn shutdown(&mut self) {
        self.stream.get_mut().shutdown(Shutdown::Write).expect("shutdown");
    }

    /// A GET request and its response.
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).response()
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        assert!(line.ends_with("\r\n"), "the connection ended after {line:?}");
        line.trim_end().to_owned()
    }

    pub(crate) fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "");
                return fields;
            };
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Status and fields.
    pub(crate) fn head(&mut self) -> Response {
        let line = self.line();
        let status = line.split(' ').nth(1).expect("a status").parse().expect("a number");
        Response { status, headers: self.fields(), body: vec![], trailers: vec![] }
    }

    pub(crate) fn response(&mut self) -> Response {
        let mut response = self.head();
        if response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                response.body.extend(chunk);
            }
            response.trailers = self.fields();
        } else if let Some(length) = response.header("content-length") {
            response.body = vec![0; length.parse().expect("a length")];
            self.stream.read_exact(&mut response.body).expect("the body");
        } else if response.status != 204 {
            self.stream.read_to_end(&mut response.body).expect("the body");
        }
        response
    }

    /// A chunk; none at the end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let len = usize::from_str_radix(&self.line(), 16).expect("a length");
        let mut chunk = vec![0; len];
        self.stream.read_exact(&mut chunk).expect("a chunk");
        if len == 0 {
            return None;
        }
        assert_eq!(self.line(), "");
        Some(chunk)
    }

    /// What comes before the connection ends, in order or not.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, Option<ErrorKind>) {
        let mut rest = Vec::new();
        let end = self.stream.read_to_end(&mut rest);
        (rest, end.err().map(|error| error.kind()))
    }

    /// Asserts that the connection ends, and nothing comes before.
    pub(crate) fn assert_closed(&mut self) {
        let (rest, end) = self.rest();
        assert_eq!(String::from_utf8_lossy(&rest), "");
        assert!(matches!(end, None | Some(ErrorKind::ConnectionReset)), "{end:?}");
    }
}
