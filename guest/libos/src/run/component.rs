//! Components.

use abi::boot::BootInfo;
use wasmtime::component::{Component, Instance, InstancePre, Linker};
use wasmtime::{Engine, Result, Store};

use super::{started, status};
use crate::call::Calls;
use crate::invoke::ComponentCall;
use crate::p2::bindings::{Command, CommandIndices};
use crate::p2::{self, Wasi};
use crate::process::Granted;

/// See [`super::Prepared`].
pub(super) struct Prepared {
    before: InstancePre<Wasi>,
    /// Where `wasi:cli/run` is, if the component has it.
    command: Option<CommandIndices>,
    live: Option<Live>,
}

/// A store and what lives in it.
struct Live {
    store: Store<Wasi>,
    instance: Option<Instance>,
    /// Its `wasi:cli/run`, if it has that. Looked up with the instance: that counts references up and down
    /// in memory which a run would otherwise only read.
    command: Option<Command>,
    /// The call by name that was made last.
    call: Option<ComponentCall>,
    /// Nothing in here can be called again.
    spent: bool,
}

impl Prepared {
    pub(super) fn link(engine: &Engine, component: &Component) -> Result<Self> {
        let mut linker = Linker::new(engine);
        p2::add_to_linker(&mut linker)?;
        let before = linker.instantiate_pre(component)?;
        let command = CommandIndices::new(&before).ok();
        Ok(Self { before, command, live: None })
    }

    pub(super) fn instantiate(&mut self) -> bool {
        if self.live.is_none() {
            let mut live = Live::new(self.before.engine(), Granted::default());
            if live.instantiate(&self.before, self.command.as_ref()).is_ok() {
                self.live = Some(live);
            }
        }
        self.live.is_some()
    }

    pub(super) fn call(&mut self, boot: &BootInfo<'_>, calls: &Calls) -> Result<i32> {
        let process = match self.live.take_if(|live| live.spent) {
            Some(live) => live.store.into_data().process,
            None => Granted::default(),
        };
        let engine = self.before.engine();
        let live = self.live.get_or_insert_with(|| Live::new(engine, process));
        live.store.data_mut().process.grant(boot, calls);
        live.spent = true;
        let outcome = match live.instantiate(&self.before, self.command.as_ref()) {
            Err(error) => Err(started(error)?),
            Ok(instance) if boot.invoke.is_empty() => live.run(&instance)?,
            Ok(instance) => {
                let outcome = live.invoke(self.before.component(), &instance, boot)?;
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
        Self { store, instance: None, command: None, call: None, spent: false }
    }

    /// The instance, which is made if there is none.
    fn instantiate(
        &mut self,
        before: &InstancePre<Wasi>,
        command: Option<&CommandIndices>,
    ) -> Result<Instance> {
        if let Some(instance) = self.instance {
            return Ok(instance);
        }
        let instance = before.instantiate(&mut self.store)?;
        self.command = match command {
            Some(indices) => Some(indices.load(&mut self.store, &instance)?),
            None => None,
        };
        self.instance = Some(instance);
        Ok(instance)
    }

    /// Runs the command. The inner result is the program's.
    fn run(&mut self, instance: &Instance) -> Result<Result<i32>> {
        let missing;
        let command = match &self.command {
            Some(command) => command,
            None => {
                // Says what is missing.
                missing = Command::new(&mut self.store, instance)?;
                &missing
            }
        };
        let ended = command.wasi_cli_run().call_run(&mut self.store);
        Ok(ended.map(|result| i32::from(result.is_err())))
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
