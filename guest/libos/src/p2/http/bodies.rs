//! Bodies and trailers.

use alloc::sync::Arc;

use wasmtime::Result;
use wasmtime::component::Resource;

use super::HttpResult;
use super::errors::error_code;
use crate::http::Fields;
use crate::http::message::{FutureTrailers, IncomingBody, OutgoingBody};
use crate::p2::Wasi;
use crate::p2::bindings::wasi::http::types::{self, ErrorCode};
use crate::poll::Pollable;
use crate::stream::{InputStream, OutputStream};

impl types::HostIncomingBody for Wasi {
    fn stream(
        &mut self,
        body: Resource<IncomingBody>,
    ) -> Result<Result<Resource<InputStream>, ()>> {
        let owner = self.table.get_mut(&body)?;
        if owner.stream_is_taken {
            return Ok(Err(()));
        }
        owner.stream_is_taken = true;
        let stream = InputStream::of_body(Arc::clone(&owner.body));
        Ok(Ok(self.hand_out_child(stream, &body)?))
    }

    fn finish(&mut self, body: Resource<IncomingBody>) -> Result<Resource<FutureTrailers>> {
        let IncomingBody { body, .. } = self.take(body)?;
        self.hand_out(FutureTrailers { body, is_taken: false })
    }

    fn drop(&mut self, body: Resource<IncomingBody>) -> Result<()> {
        self.take_back(body)
    }
}

impl types::HostFutureTrailers for Wasi {
    fn subscribe(&mut self, future: Resource<FutureTrailers>) -> Result<Resource<Pollable>> {
        let FutureTrailers { body, is_taken } = self.table.get(&future)?;
        let pollable = match is_taken {
            true => Pollable::Ready,
            false => Pollable::Trailers(Arc::clone(body)),
        };
        Ok(self.table.push_child(pollable, &future)?)
    }

    fn get(
        &mut self,
        future: Resource<FutureTrailers>,
    ) -> Result<Option<Result<Result<Option<Resource<Fields>>, ErrorCode>, ()>>> {
        let future = self.table.get_mut(&future)?;
        if future.is_taken {
            return Ok(Some(Err(())));
        }
        let Some(ended) = future.body.trailers() else {
            // Whoever asks again and again waits.
            self.process.get()?.bodies.release();
            return Ok(None);
        };
        future.is_taken = true;
        Ok(Some(Ok(match ended {
            Ok(Some(trailers)) => Ok(Some(self.hand_out(trailers)?)),
            Ok(None) => Ok(None),
            Err(failure) => Err(error_code(failure)),
        })))
    }

    fn drop(&mut self, future: Resource<FutureTrailers>) -> Result<()> {
        self.take_back(future)
    }
}

impl types::HostOutgoingBody for Wasi {
    fn write(
        &mut self,
        body: Resource<OutgoingBody>,
    ) -> Result<Result<Resource<OutputStream>, ()>> {
        let owner = self.table.get_mut(&body)?;
        if owner.stream_is_taken {
            return Ok(Err(()));
        }
        owner.stream_is_taken = true;
        let stream = OutputStream::of_body(owner.body);
        Ok(Ok(self.hand_out_child(stream, &body)?))
    }

    fn finish(
        &mut self,
        body: Resource<OutgoingBody>,
        trailers: Option<Resource<Fields>>,
    ) -> HttpResult<()> {
        let OutgoingBody { body, .. } = self.take(body)?;
        let trailers = match trailers {
            Some(trailers) => Some(self.take(trailers)?),
            None => None,
        };
        Ok(self.process.get()?.bodies.finish(body, trailers.as_ref())?)
    }

    fn drop(&mut self, body: Resource<OutgoingBody>) -> Result<()> {
        let OutgoingBody { body, .. } = self.take(body)?;
        self.process.get()?.bodies.abandon(body);
        Ok(())
    }
}
