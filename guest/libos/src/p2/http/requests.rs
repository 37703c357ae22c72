//! Requests: those that came, and those that the program makes.

use alloc::string::String;

use abi::http::ErrorCode;
use wasmtime::Result;
use wasmtime::component::Resource;

use super::HttpResult;
use crate::http::message::{
    FutureResponse, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest, RequestOptions,
};
use crate::http::{Fields, syntax};
use crate::p2::Wasi;
use crate::p2::bindings::wasi::http::outgoing_handler;
use crate::p2::bindings::wasi::http::types::{self, Method, Scheme};

/// The interface's word for a method.
fn method_of(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(String::from(other)),
    }
}

fn method_name(method: Method) -> String {
    String::from(match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(other) => return other,
    })
}

/// The interface's word for a scheme.
fn scheme_of(name: &str) -> Scheme {
    match name {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(String::from(other)),
    }
}

fn scheme_name(scheme: Scheme) -> String {
    match scheme {
        Scheme::Http => String::from("http"),
        Scheme::Https => String::from("https"),
        Scheme::Other(other) => other,
    }
}

impl types::HostIncomingRequest for Wasi {
    fn method(&mut self, request: Resource<IncomingRequest>) -> Result<Method> {
        Ok(method_of(&self.table.get(&request)?.method))
    }

    fn path_with_query(&mut self, request: Resource<IncomingRequest>) -> Result<Option<String>> {
        Ok(self.table.get(&request)?.path_with_query.clone())
    }

    fn scheme(&mut self, request: Resource<IncomingRequest>) -> Result<Option<Scheme>> {
        Ok(self.table.get(&request)?.scheme.as_deref().map(scheme_of))
    }

    fn authority(&mut self, request: Resource<IncomingRequest>) -> Result<Option<String>> {
        Ok(self.table.get(&request)?.authority.clone())
    }

    fn headers(&mut self, request: Resource<IncomingRequest>) -> Result<Resource<Fields>> {
        let headers = self.table.get(&request)?.headers.clone();
        self.hand_out(headers)
    }

    fn consume(
        &mut self,
        request: Resource<IncomingRequest>,
    ) -> Result<Result<Resource<IncomingBody>, ()>> {
        match self.table.get_mut(&request)?.body.take() {
            Some(body) => Ok(Ok(self.hand_out(IncomingBody { body, stream_is_taken: false })?)),
            None => Ok(Err(())),
        }
    }

    fn drop(&mut self, request: Resource<IncomingRequest>) -> Result<()> {
        self.take_back(request)
    }
}

impl types::HostOutgoingRequest for Wasi {
    fn new(&mut self, headers: Resource<Fields>) -> Result<Resource<OutgoingRequest>> {
        let headers = self.take(headers)?.into_immutable();
        self.hand_out(OutgoingRequest {
            method: String::from("GET"),
            scheme: None,
            authority: None,
            path_with_query: None,
            headers,
            body: None,
        })
    }

    fn body(
        &mut self,
        request: Resource<OutgoingRequest>,
    ) -> Result<Result<Resource<OutgoingBody>, ()>> {
        let request = self.table.get_mut(&request)?;
        if request.body.is_some() {
            return Ok(Err(()));
        }
        let bodies = &mut self.process.get()?.bodies;
        let body = bodies.open(&request.headers, ErrorCode::HttpRequestBodySize);
        request.body = Some(body);
        Ok(Ok(self.hand_out(OutgoingBody { body, stream_is_taken: false })?))
    }

    fn method(&mut self, request: Resource<OutgoingRequest>) -> Result<Method> {
        Ok(method_of(&self.table.get(&request)?.method))
    }

    fn set_method(
        &mut self,
        request: Resource<OutgoingRequest>,
        method: Method,
    ) -> Result<Result<(), ()>> {
        let method = method_name(method);
        if !syntax::is_token(method.as_bytes()) {
            return Ok(Err(()));
        }
        self.table.get_mut(&request)?.method = method;
        Ok(Ok(()))
    }

    fn path_with_query(&mut self, request: Resource<OutgoingRequest>) -> Result<Option<String>> {
        Ok(self.table.get(&request)?.path_with_query.clone())
    }

    fn set_path_with_query(
        &mut self,
        request: Resource<OutgoingRequest>,
        path_with_query: Option<String>,
    ) -> Result<Result<(), ()>> {
        if path_with_query.as_deref().is_some_and(|text| !syntax::is_path_with_query(text)) {
            return Ok(Err(()));
        }
        self.table.get_mut(&request)?.path_with_query = path_with_query;
        Ok(Ok(()))
    }

    fn scheme(&mut self, request: Resource<OutgoingRequest>) -> Result<Option<Scheme>> {
        Ok(self.table.get(&request)?.scheme.as_deref().map(scheme_of))
    }

    fn set_scheme(
        &mut self,
        request: Resource<OutgoingRequest>,
        scheme: Option<Scheme>,
    ) -> Result<Result<(), ()>> {
        let scheme = scheme.map(scheme_name);
        if scheme.as_deref().is_some_and(|text| !syntax::is_scheme(text)) {
            return Ok(Err(()));
        }
        self.table.get_mut(&request)?.scheme = scheme;
        Ok(Ok(()))
    }

    fn authority(&mut self, request: Resource<OutgoingRequest>) -> Result<Option<String>> {
        Ok(self.table.get(&request)?.authority.clone())
    }

    fn set_authority(
        &mut self,
        request: Resource<OutgoingRequest>,
        authority: Option<String>,
    ) -> Result<Result<(), ()>> {
        if authority.as_deref().is_some_and(|text| !syntax::is_authority(text)) {
            return Ok(Err(()));
        }
        self.table.get_mut(&request)?.authority = authority;
        Ok(Ok(()))
    }

    fn headers(&mut self, request: Resource<OutgoingRequest>) -> Result<Resource<Fields>> {
        let headers = self.table.get(&request)?.headers.clone();
        self.hand_out(headers)
    }

    fn drop(&mut self, request: Resource<OutgoingRequest>) -> Result<()> {
        if let Some(body) = self.take(request)?.body {
            self.process.get()?.bodies.cancel(body);
        }
        Ok(())
    }
}

impl types::HostRequestOptions for Wasi {
    fn new(&mut self) -> Result<Resource<RequestOptions>> {
        self.hand_out(RequestOptions::default())
    }

    fn connect_timeout(&mut self, options: Resource<RequestOptions>) -> Result<Option<u64>> {
        Ok(self.table.get(&options)?.connect)
    }

    fn set_connect_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        duration: Option<u64>,
    ) -> Result<Result<(), ()>> {
        self.table.get_mut(&options)?.connect = duration;
        Ok(Ok(()))
    }

    fn first_byte_timeout(&mut self, options: Resource<RequestOptions>) -> Result<Option<u64>> {
        Ok(self.table.get(&options)?.first_byte)
    }

    fn set_first_byte_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        duration: Option<u64>,
    ) -> Result<Result<(), ()>> {
        self.table.get_mut(&options)?.first_byte = duration;
        Ok(Ok(()))
    }

    fn between_bytes_timeout(&mut self, options: Resource<RequestOptions>) -> Result<Option<u64>> {
        Ok(self.table.get(&options)?.between_bytes)
    }

    fn set_between_bytes_timeout(
        &mut self,
        options: Resource<RequestOptions>,
        duration: Option<u64>,
    ) -> Result<Result<(), ()>> {
        self.table.get_mut(&options)?.between_bytes = duration;
        Ok(Ok(()))
    }

    fn drop(&mut self, options: Resource<RequestOptions>) -> Result<()> {
        self.take_back(options)
    }
}

impl outgoing_handler::Host for Wasi {
    fn handle(
        &mut self,
        request: Resource<OutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> HttpResult<Resource<FutureResponse>> {
        let options = match options {
            Some(options) => self.take(options)?,
            None => RequestOptions::default(),
        };
        let request = self.take(request)?;
        let process = self.process.get()?;
        let calls = process.calls().clone();
        let response = request.send(&calls, &mut process.bodies, options)?;
        Ok(self.hand_out(response)?)
    }
}
