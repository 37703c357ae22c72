//! Components.

use alloc::sync::Arc;

use abi::boot::{BootInfo, boot_flags};
use abi::http::IncomingRequest as Request;
use wasmtime::component::{Component, Instance, InstancePre, Linker};
use wasmtime::{Engine, Error, Result, Store};

use super::{started, status};
use crate::call::Calls;
use crate::handle::OwnedHandle;
use crate::http::message::IncomingRequest;
use crate::invoke::ComponentCall;
use crate::p2::bindings::proxy::{Proxy, ProxyIndices};
use crate::p2::bindings::{Command, CommandIndices};
use crate::p2::{self, Wasi};
use crate::process::Granted;

/// See [`super::Prepared`].
pub(super) struct Prepared {
    before: InstancePre<Wasi>,
    entries: Entries,
    live: Option<Live>,
}

/// Where the entry points are that the component has.
struct Entries {
    /// `wasi:cli/run`.
    command: Option<CommandIndices>,
    /// `wasi:http/incoming-handler`.
    proxy: Option<ProxyIndices>,
}

/// A store and what lives in it.
struct Live {
    store: Store<Wasi>,
    instance: Option<Instance>,
    /// Its entry points, where it has them. Looked up with the instance: that counts references up and
    /// down in memory which a run would otherwise only read.
    command: Option<Command>,
    proxy: Option<Proxy>,
    /// The call by name that was made last.
    call: Option<ComponentCall>,
    /// It was called.
    used: bool,
    /// Nothing in here can be called again.
    spent: bool,
}

impl Prepared {
    pub(super) fn link(engine: &Engine, component: &Component) -> Result<Self> {
        let mut linker = Linker::new(engine);
        p2::add_to_linker(&mut linker)?;
        let before = linker.instantiate_pre(component)?;
        let command = CommandIndices::new(&before).ok();
        let proxy = ProxyIndices::new(&before).ok();
        Ok(Self { before, entries: Entries { command, proxy }, live: None })
    }

    pub(super) fn instantiate(&mut self) -> bool {
        if self.live.is_none() {
            let mut live = Live::new(self.before.engine(), Granted::default());
            if live.instantiate(&self.before, &self.entries).is_ok() {
                self.live = Some(live);
            }
        }
        self.live.is_some()
    }

    pub(super) fn call(&mut self, boot: &BootInfo<'_>, calls: &Calls) -> Result<i32> {
        let is_new = boot.header.flags & boot_flags::NEW_INSTANCE != 0;
        let process = match self.live.take_if(|live| live.spent || live.used && is_new) {
            Some(live) => live.store.into_data().process,
            None => Granted::default(),
        };
        let engine = self.before.engine();
        let live = self.live.get_or_insert_with(|| Live::new(engine, process));
        live.store.data_mut().process.grant(boot, calls);
        let request = match boot.request {
            [] => None,
            bytes => {
                let malformed = || Error::msg("the request in the boot information is malformed");
                let request = Request::decode(bytes).ok_or_else(malformed)?;
                let exchange = OwnedHandle::of_call(calls, request.exchange);
                live.store.data_mut().exchange = Some(Arc::clone(&exchange));
                Some((request, exchange))
            }
        };
        live.used = true;
        live.spent = true;
        let outcome = match live.instantiate(&self.before, &self.entries) {
            Err(error) => Err(started(error)?),
            Ok(_) if request.is_none() && boot.invoke.is_empty() => live.run()?,
            Ok(instance) => {
                let outcome = match &request {
                    Some((request, exchange)) => live.handle(request, exchange)?,
                    None => live.invoke(self.before.component(), &instance, boot)?,
                };
                live.spent = outcome.is_err();
                outcome.map(|()| 0)
            }
        };
        let Wasi { process, exchange, .. } = live.store.data_mut();
        let status = status(process.get()?, boot, outcome);
        // Whatever of the program still refers to it.
        if let Some(exchange) = exchange.take() {
            exchange.end_with_call();
        }
        Ok(status)
    }
}

impl Live {
    fn new(engine: &Engine, process: Granted) -> Self {
        let store = Store::new(engine, Wasi::new(process));
        Self {
            store,
            instance: None,
            command: None,
            proxy: None,
            call: None,
            used: false,
            spent: false,
        }
    }

    /// The instance, which is made if there is none.
    fn instantiate(&mut self, before: &InstancePre<Wasi>, entries: &Entries) -> Result<Instance> {
        if let Some(instance) = self.instance {
            return Ok(instance);
        }
        let instance = before.instantiate(&mut self.store)?;
        self.command = match &entries.command {
            Some(indices) => Some(indices.load(&mut self.store, &instance)?),
            None => None,
        };
        self.proxy = match &entries.proxy {
            Some(indices) => Some(indices.load(&mut self.store, &instance)?),
            None => None,
        };
        self.instance = Some(instance);
        Ok(instance)
    }

    /// Runs the command. The inner result is the program's.
    fn run(&mut self) -> Result<Result<i32>> {
        let Some(command) = &self.command else {
            return Err(Error::msg(match self.proxy {
                Some(_) => {
                    "the component is no command: it exports wasi:http/incoming-handler, which \
                     answers requests, and no wasi:cli/run"
                }
                None => "the component is no command: it exports no wasi:cli/run",
            }));
        };
        let ended = command.wasi_cli_run().call_run(&mut self.store);
        Ok(ended.map(|result| i32::from(result.is_err())))
    }

    /// Has the component answer a request. The inner result is the program's.
    fn handle(&mut self, request: &Request<'_>, exchange: &Arc<OwnedHandle>) -> Result<Result<()>> {
        let Some(proxy) = &self.proxy else {
            return Err(Error::msg(match self.command {
                Some(_) => {
                    "the component answers no requests: it is a command, and exports no \
                     wasi:http/incoming-handler"
                }
                None => "the component exports no wasi:http/incoming-handler to answer requests",
            }));
        };
        let (incoming, outparam) = IncomingRequest::new(request, exchange);
        let wasi = self.store.data_mut();
        let (incoming, outparam) = (wasi.hand_out(incoming)?, wasi.hand_out(outparam)?);
        let handler = proxy.wasi_http_incoming_handler();
        Ok(handler.call_handle(&mut self.store, incoming, outparam))
    }

    /// Calls the function that the boot information names. The inner result is the program's.
    fn invoke(
        &mut self,
        component: &Component,
        instance: &Instance,
        boot: &BootInfo<'_>,
    ) -> Result<Result<()>> {
        let last = self.call.take();
        let call = ComponentCall::read(last, &mut self.store, component, instance, boot)?;
        Ok(self.call.insert(call).call(&mut self.store))
    }
}
