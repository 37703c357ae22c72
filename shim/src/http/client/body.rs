//! The bodies of requests and responses.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use vmm::host::http::{BodyReader, Failure, Part};

/// The body of a request, that a program writes.
#[derive(Debug)]
pub(super) struct RequestBody {
    reader: BodyReader,
    is_over: bool,
}

impl RequestBody {
    pub(super) fn new(reader: BodyReader) -> Self {
        Self { reader, is_over: false }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let part = ready!(self.reader.poll_read(cx));
        self.is_over = !matches!(part, Ok(Part::Data(_)));
        Poll::Ready(match part {
            Ok(Part::Data(bytes)) => Some(Ok(Frame::data(bytes.into()))),
            Ok(Part::End(trailers)) => {
                (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)))
            }
            Err(failure) => Some(Err(failure)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || (self.reader.has_ended() && self.reader.bytes_left() == Some(0))
    }

    fn size_hint(&self) -> SizeHint {
        self.reader.bytes_left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The next piece of a response's body.
pub(super) async fn next(body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}
