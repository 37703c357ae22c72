//! Core modules.

use abi::boot::BootInfo;
use wasmtime::{Engine, Error, Instance, InstancePre, Linker, Module, Result, Store};

use super::{started, status};
use crate::call::Calls;
use crate::invoke::{ModuleCall, ModuleFunction};
use crate::p1::{self, Wasi};
use crate::process::Granted;

/// What runs a command.
const START: &str = "_start";
/// What a module exports that is no command, to be called before any other function.
const INITIALIZE: &str = "_initialize";

/// See [`super::Prepared`].
pub(super) struct Prepared {
    before: InstancePre<Wasi>,
    /// It has no [`START`], so it will be called by name only.
    is_reactor: bool,
    live: Option<Live>,
}

/// A store and what lives in it.
struct Live {
    store: Store<Wasi>,
    instance: Option<Instance>,
    /// [`INITIALIZE`] was called, if there is one.
    initialized: bool,
    /// The function that was called last.
    function: Option<ModuleFunction>,
    /// Nothing in here can be called again.
    spent: bool,
}

impl Prepared {
    pub(super) fn link(engine: &Engine, module: &Module) -> Result<Self> {
        let mut linker = Linker::new(engine);
        p1::add_to_linker(&mut linker)?;
        let before = linker.instantiate_pre(module)?;
        Ok(Self { before, is_reactor: module.get_export_index(START).is_none(), live: None })
    }

    pub(super) fn instantiate(&mut self) -> bool {
        if self.live.is_none() {
            let mut live = Live::new(self.before.module().engine(), Granted::default());
            let started = live.instantiate(&self.before).and_then(|instance| {
                if self.is_reactor { live.initialize(&instance) } else { Ok(()) }
            });
            if started.is_ok() {
                self.live = Some(live);
            }
        }
        self.live.is_some()
    }

    pub(super) fn call(&mut self, boot: &BootInfo<'_>, calls: &Calls) -> Result<i32> {
        if !boot.request.is_empty() {
            return Err(Error::msg(
                "a core module answers no requests: a component does, which exports \
                 wasi:http/incoming-handler",
            ));
        }
        let process = match self.live.take_if(|live| live.spent) {
            Some(live) => live.store.into_data().process,
            None => Granted::default(),
        };
        let engine = self.before.module().engine();
        let live = self.live.get_or_insert_with(|| Live::new(engine, process));
        live.store.data_mut().process.grant(boot, calls);
        live.spent = true;
        let outcome = match live.instantiate(&self.before) {
            Err(error) => Err(started(error)?),
            Ok(instance) if boot.invoke.is_empty() => live.run(&instance)?,
            Ok(instance) => {
                let outcome = live.invoke(self.before.module(), &instance, boot)?;
                live.spent = outcome.is_err();
                outcome.map(|()| 0)
            }
        };
        Ok(status(live.store.data_mut().process.get()?, boot, outcome))
    }
}

impl Live {
    fn new(engine: &Engine, process: Granted) -> Self {
        let store = Store::new(engine, Wasi::new(process));
        Self { store, instance: None, initialized: false, function: None, spent: false }
    }

    /// The instance, which is made if there is none.
    fn instantiate(&mut self, before: &InstancePre<Wasi>) -> Result<Instance> {
        if let Some(instance) = self.instance {
            return Ok(instance);
        }
        let instance = before.instantiate(&mut self.store)?;
        self.instance = Some(instance);
        Ok(instance)
    }

    /// Runs the command. The inner result is the program's.
    fn run(&mut self, instance: &Instance) -> Result<Result<i32>> {
        let start = instance.get_typed_func::<(), ()>(&mut self.store, START)?;
        Ok(start.call(&mut self.store, ()).map(|()| 0))
    }

    /// Calls the function that the boot information names. The inner result is the program's.
    fn invoke(
        &mut self,
        module: &Module,
        instance: &Instance,
        boot: &BootInfo<'_>,
    ) -> Result<Result<()>> {
        let call = ModuleCall::read(&mut self.function, &mut self.store, module, instance, boot)?;
        if let Err(error) = self.initialize(instance) {
            return Ok(Err(error));
        }
        Ok(call.call(&mut self.store))
    }

    /// Calls [`INITIALIZE`] once, if there is one.
    fn initialize(&mut self, instance: &Instance) -> Result<()> {
        if !self.initialized {
            self.initialized = true;
            if let Ok(function) = instance.get_typed_func::<(), ()>(&mut self.store, INITIALIZE) {
                function.call(&mut self.store, ())?;
            }
        }
        Ok(())
    }
}
