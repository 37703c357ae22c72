//! Responses: those that the program gives, and those that it gets.

use abi::http::ErrorCode as Code;
use wasmtime::Result;
use wasmtime::component::Resource;

use super::errors::{error_code, failure};
use super::{HttpFailure, HttpResult};
use crate::http::message::{
    FutureResponse, IncomingBody, IncomingResponse, OutgoingBody, OutgoingResponse,
    ResponseOutparam,
};
use crate::http::{Failure, Fields};
use crate::p2::Wasi;
use crate::p2::bindings::wasi::http::types::{self, ErrorCode, StatusCode};
use crate::poll::Pollable;

impl types::HostResponseOutparam for Wasi {
    fn send_informational(
        &mut self,
        outparam: Resource<ResponseOutparam>,
        status: u16,
        headers: Resource<Fields>,
    ) -> HttpResult<()> {
        self.table.get(&outparam)?;
        let _: Fields = self.take(headers)?;
        Err(HttpFailure::Failed(match status {
            100..=199 => Failure::internal("informational responses are not supported"),
            _ => Code::HttpProtocolError.into(),
        }))
    }

    fn set(
        &mut self,
        outparam: Resource<ResponseOutparam>,
        response: Result<Resource<OutgoingResponse>, ErrorCode>,
    ) -> Result<()> {
        let outparam = self.take(outparam)?;
        match response {
            Ok(response) => {
                let response = self.take(response)?;
                outparam.respond(&mut self.process.get()?.bodies, response);
            }
            Err(code) => outparam.fail(&failure(code)),
        }
        Ok(())
    }

    fn drop(&mut self, outparam: Resource<ResponseOutparam>) -> Result<()> {
        self.take_back(outparam)
    }
}

impl types::HostOutgoingResponse for Wasi {
    fn new(&mut self, headers: Resource<Fields>) -> Result<Resource<OutgoingResponse>> {
        let headers = self.take(headers)?.into_immutable();
        self.hand_out(OutgoingResponse { status: 200, headers, body: None })
    }

    fn status_code(&mut self, response: Resource<OutgoingResponse>) -> Result<StatusCode> {
        Ok(self.table.get(&response)?.status)
    }

    fn set_status_code(
        &mut self,
        response: Resource<OutgoingResponse>,
        status: StatusCode,
    ) -> Result<Result<(), ()>> {
        // Three digits (RFC 9110, 15).
        if !(100..=999).contains(&status) {
            return Ok(Err(()));
        }
        self.table.get_mut(&response)?.status = status;
        Ok(Ok(()))
    }

    fn headers(&mut self, response: Resource<OutgoingResponse>) -> Result<Resource<Fields>> {
        let headers = self.table.get(&response)?.headers.clone();
        self.hand_out(headers)
    }

    fn body(
        &mut self,
        response: Resource<OutgoingResponse>,
    ) -> Result<Result<Resource<OutgoingBody>, ()>> {
        let response = self.table.get_mut(&response)?;
        if response.body.is_some() {
            return Ok(Err(()));
        }
        let bodies = &mut self.process.get()?.bodies;
        let body = bodies.open(&response.headers, Code::HttpResponseBodySize);
        response.body = Some(body);
        Ok(Ok(self.hand_out(OutgoingBody { body, stream_is_taken: false })?))
    }

    fn drop(&mut self, response: Resource<OutgoingResponse>) -> Result<()> {
        if let Some(body) = self.take(response)?.body {
            self.process.get()?.bodies.cancel(body);
        }
        Ok(())
    }
}

impl types::HostFutureIncomingResponse for Wasi {
    fn subscribe(&mut self, future: Resource<FutureResponse>) -> Result<Resource<Pollable>> {
        let bodies = &mut self.process.get()?.bodies;
        let pollable = match self.table.get_mut(&future)?.awaited(bodies) {
            Some(exchange) => Pollable::Handle(exchange, abi::poll_events::READ),
            None => Pollable::Ready,
        };
        Ok(self.table.push_child(pollable, &future)?)
    }

    fn get(
        &mut self,
        future: Resource<FutureResponse>,
    ) -> Result<Option<Result<Result<Resource<IncomingResponse>, ErrorCode>, ()>>> {
        let bodies = &mut self.process.get()?.bodies;
        Ok(match self.table.get_mut(&future)?.get(bodies) {
            None => {
                // Whoever asks again and again waits.
                bodies.release();
                None
            }
            Some(Err(())) => Some(Err(())),
            Some(Ok(Err(failure))) => Some(Ok(Err(error_code(failure)))),
            Some(Ok(Ok(response))) => Some(Ok(Ok(self.hand_out(response)?))),
        })
    }

    fn drop(&mut self, future: Resource<FutureResponse>) -> Result<()> {
        let future = self.take(future)?;
        future.cancel(&mut self.process.get()?.bodies);
        Ok(())
    }
}

impl types::HostIncomingResponse for Wasi {
    fn status(&mut self, response: Resource<IncomingResponse>) -> Result<StatusCode> {
        Ok(self.table.get(&response)?.status)
    }

    fn headers(&mut self, response: Resource<IncomingResponse>) -> Result<Resource<Fields>> {
        let headers = self.table.get(&response)?.headers.clone();
        self.hand_out(headers)
    }

    fn consume(
        &mut self,
        response: Resource<IncomingResponse>,
    ) -> Result<Result<Resource<IncomingBody>, ()>> {
        match self.table.get_mut(&response)?.body.take() {
            Some(body) => Ok(Ok(self.hand_out(IncomingBody { body, stream_is_taken: false })?)),
            None => Ok(Err(())),
        }
    }

    fn drop(&mut self, response: Resource<IncomingResponse>) -> Result<()> {
        self.take_back(response)
    }
}
