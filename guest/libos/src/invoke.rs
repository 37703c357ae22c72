//! Calls an exported function by the text that a person wrote, and prints what it returns.
//!
//! A component's function is called in WAVE, the text form of the component model's values:
//! `add(1, 2)`, or `INTERFACE#add(1, 2)` where an interface must be told. A core module's function is
//! named, and its arguments are the program's: numbers in decimal, each of the parameter's type.

mod wave;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

use abi::boot::BootInfo;
use wasm_wave::untyped::UntypedFuncCall;
use wasm_wave::writer::Writer;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{self, Component};
use wasmtime::{Error, ExternType, FuncType, Instance, Module, Result, Store, Val, ValType};

use crate::process::Process;
use crate::{p1, p2};

/// A call of a component's function, ready to be made; any number of times.
pub(crate) struct ComponentCall {
    /// What the boot information says.
    text: Vec<u8>,
    function: ComponentFunction,
    params: Vec<component::Val>,
}

impl ComponentCall {
    /// Reads what the boot information says. If that is what it said for the `last` call, there is nothing
    /// to do; if it is the same function, there is nothing to look up.
    ///
    /// # Errors
    ///
    /// What is wrong with the text; there is no such function, and which there are; a type that has no
    /// text form.
    pub(crate) fn read(
        last: Option<Self>,
        store: &mut Store<p2::Wasi>,
        component: &Component,
        instance: &component::Instance,
        boot: &BootInfo<'_>,
    ) -> Result<Self> {
        let last = match last {
            Some(last) if last.text == boot.invoke => return Ok(last),
            Some(last) => Some(last.function),
            None => None,
        };
        let text = String::from_utf8_lossy(boot.invoke);
        let wrong = |error: &dyn Display| Error::msg(format!("invoke {text:?}: {error}"));
        let (interface, call) = match text.split_once('#') {
            Some((interface, call)) => (Some(interface), call),
            None => (None, text.as_ref()),
        };
        let call = UntypedFuncCall::parse(call).map_err(|error| wrong(&error))?;
        let function = match last.filter(|last| last.is(interface, call.name())) {
            Some(function) => function,
            None => ComponentFunction::find(store, component, instance, interface, call.name())
                .map_err(|error| wrong(&error))?,
        };
        let params = call
            .to_wasm_params::<wasm_wave::value::Value>(&function.params)
            .map_err(|error| wrong(&error))?;
        let params = params.iter().map(wave::val).collect::<Result<Vec<_>>>()?;
        Ok(Self { text: boot.invoke.to_vec(), function, params })
    }

    /// Makes the call and prints the result on a line of standard output.
    ///
    /// # Errors
    ///
    /// What ended the function; standard output takes nothing.
    pub(crate) fn call(&self, store: &mut Store<p2::Wasi>) -> Result<()> {
        let Self { function, params, .. } = self;
        let mut results = Vec::new();
        results.resize(function.results.len(), component::Val::Bool(false));
        function.function.call(&mut *store, params, &mut results)?;
        let mut text = String::new();
        for (result, ty) in results.iter().zip(&function.results) {
            Writer::new(&mut text)
                .write_value(&wave::value(result, ty)?)
                .map_err(|error| Error::msg(format!("print the result: {error}")))?;
            text.push('\n');
        }
        print(store.data_mut().process.get()?, &text)
    }
}

/// A component's function.
struct ComponentFunction {
    /// As the call named it.
    interface: Option<String>,
    name: String,
    function: component::Func,
    params: Vec<wasm_wave::value::Type>,
    results: Vec<wasm_wave::value::Type>,
}

impl ComponentFunction {
    /// Finds the function that `interface`, if the call says one, and `name` mean.
    fn find(
        store: &mut Store<p2::Wasi>,
        component: &Component,
        instance: &component::Instance,
        interface: Option<&str>,
        name: &str,
    ) -> Result<Self> {
        let exports = functions(component);
        let matching: Vec<&Exported> = exports
            .iter()
            .filter(|export| export.function == name)
            .filter(|export| interface.is_none() || interface == export.interface.as_deref())
            .collect();
        let [export] = matching.as_slice() else {
            let why = if matching.is_empty() { "there is no such function" } else { "say which" };
            return Err(Error::msg(format!("{why}; {}", list(&exports))));
        };
        let parent = match &export.interface {
            Some(interface) => {
                let index = instance.get_export_index(&mut *store, None, interface);
                Some(index.ok_or_else(|| Error::msg(format!("no export {interface}")))?)
            }
            None => None,
        };
        let index = instance.get_export_index(&mut *store, parent.as_ref(), &export.function);
        let function = index.and_then(|index| instance.get_func(&mut *store, index));
        let function =
            function.ok_or_else(|| Error::msg(format!("no export {}", export.function)))?;
        let ty = function.ty(&*store);
        let params = ty.params().map(|(_, ty)| wave::type_of(&ty)).collect::<Result<Vec<_>>>()?;
        let results = ty.results().map(|ty| wave::type_of(&ty)).collect::<Result<Vec<_>>>()?;
        let interface = interface.map(String::from);
        Ok(Self { interface, name: String::from(name), function, params, results })
    }

    fn is(&self, interface: Option<&str>, name: &str) -> bool {
        self.interface.as_deref() == interface && self.name == name
    }
}

/// An exported function of a component.
struct Exported {
    interface: Option<String>,
    function: String,
}

/// The functions that a component exports, by itself and in interfaces.
fn functions(component: &Component) -> Vec<Exported> {
    let engine = component.engine();
    let mut functions = Vec::new();
    for (name, item) in component.component_type().exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) => {
                functions.push(Exported { interface: None, function: name.to_string() });
            }
            ComponentItem::ComponentInstance(interface) => {
                let of_interface = interface
                    .exports(engine)
                    .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                    .map(|(function, _)| Exported {
                        interface: Some(name.to_string()),
                        function: function.to_string(),
                    });
                functions.extend(of_interface);
            }
            _ => {}
        }
    }
    functions
}

fn list(exports: &[Exported]) -> String {
    let names: Vec<String> = exports
        .iter()
        .map(|export| match &export.interface {
            Some(interface) => format!("{interface}#{}", export.function),
            None => export.function.clone(),
        })
        .collect();
    exported(&names)
}

fn exported(names: &[String]) -> String {
    if names.is_empty() {
        return String::from("it exports no function");
    }
    format!("it exports {}", names.join(", "))
}

/// A core module's function that was called: the next call is mostly of the same.
pub(crate) struct ModuleFunction {
    name: String,
    function: wasmtime::Func,
    ty: FuncType,
}

impl ModuleFunction {
    fn find(
        store: &mut Store<p1::Wasi>,
        module: &Module,
        instance: &Instance,
        name: &str,
    ) -> Result<Self> {
        let Some(function) = instance.get_func(&mut *store, name) else {
            let names: Vec<String> = module
                .exports()
                .filter(|export| matches!(export.ty(), ExternType::Func(_)))
                .map(|export| export.name().to_string())
                .collect();
            return Err(Error::msg(format!("there is no such function; {}", exported(&names))));
        };
        let ty = function.ty(&*store);
        Ok(Self { name: String::from(name), function, ty })
    }
}

/// A call of a core module's function, ready to be made.
pub(crate) struct ModuleCall {
    function: wasmtime::Func,
    params: Vec<Val>,
    results: usize,
}

impl ModuleCall {
    /// Reads what the boot information says. The function is looked up if it is not the `last` one, and
    /// is the last one then.
    ///
    /// # Errors
    ///
    /// There is no such function, and which there are; the arguments do not fit its parameters.
    pub(crate) fn read(
        last: &mut Option<ModuleFunction>,
        store: &mut Store<p1::Wasi>,
        module: &Module,
        instance: &Instance,
        boot: &BootInfo<'_>,
    ) -> Result<Self> {
        let name = String::from_utf8_lossy(boot.invoke);
        let wrong = |error: &dyn Display| Error::msg(format!("invoke {name:?}: {error}"));
        let found = match last.take_if(|last| last.name == name) {
            Some(found) => found,
            None => ModuleFunction::find(store, module, instance, &name)
                .map_err(|error| wrong(&error))?,
        };
        let ModuleFunction { function, ty, .. } = last.insert(found);
        let args = boot.args.get(1..).unwrap_or_default();
        if args.len() != ty.params().len() {
            let (takes, given) = (ty.params().len(), args.len());
            return Err(wrong(&format_args!("it takes {takes} arguments, not {given}")));
        }
        let params = ty
            .params()
            .zip(args)
            .map(|(ty, arg)| {
                let arg = String::from_utf8_lossy(arg);
                number(&ty, &arg)
                    .ok_or_else(|| wrong(&format_args!("{arg:?} is no number of type {ty}")))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { function: *function, params, results: ty.results().len() })
    }

    /// Makes the call and prints each result on a line of standard output.
    ///
    /// # Errors
    ///
    /// What ended the function; a result that is no number; standard output takes nothing.
    pub(crate) fn call(self, store: &mut Store<p1::Wasi>) -> Result<()> {
        let mut results = Vec::new();
        results.resize(self.results, Val::I32(0));
        self.function.call(&mut *store, &self.params, &mut results)?;
        let mut text = String::new();
        for result in &results {
            text += &match result {
                Val::I32(value) => value.to_string(),
                Val::I64(value) => value.to_string(),
                Val::F32(bits) => f32::from_bits(*bits).to_string(),
                Val::F64(bits) => f64::from_bits(*bits).to_string(),
                Val::V128(value) => format!("{:#034x}", value.as_u128()),
                reference => format!("<{:?}>", reference.ty(&*store)?),
            };
            text.push('\n');
        }
        print(store.data_mut().process.get()?, &text)
    }
}

/// A number of a core type. An integer may be written signed or unsigned.
fn number(ty: &ValType, text: &str) -> Option<Val> {
    match ty {
        ValType::I32 => {
            let unsigned = || text.parse::<u32>().map(u32::cast_signed);
            text.parse().or_else(|_| unsigned()).ok().map(Val::I32)
        }
        ValType::I64 => {
            let unsigned = || text.parse::<u64>().map(u64::cast_signed);
            text.parse().or_else(|_| unsigned()).ok().map(Val::I64)
        }
        ValType::F32 => text.parse::<f32>().ok().map(|value| Val::F32(value.to_bits())),
        ValType::F64 => text.parse::<f64>().ok().map(|value| Val::F64(value.to_bits())),
        ValType::V128 | ValType::Ref(_) => None,
    }
}

/// Prints results, if there are any.
fn print(process: &mut Process, text: &str) -> Result<()> {
    process
        .print(text)
        .map_err(|errno| Error::msg(format!("print the result: the host answered {errno:?}")))
}
