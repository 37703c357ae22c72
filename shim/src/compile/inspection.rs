//! What a file is, for people and for tools: `hyperlight inspect`.
//!
//! Rule: it says what running would say, but for what only compiling finds out
//! ([`Refusal::Uncompilable`]). Whether the file can run is decided by the same functions, and the reason
//! is the same [`Refusal`]. Names are as the file has them; whoever prints one escapes it.

use serde::{Deserialize, Serialize};
use wasmtime::wasmparser::Validator;

use super::outline::{CoreType, Kind, MemoryNeeds, Outline};
use super::refusal::one_line;
use super::wasi::{P1_MODULE, interface_0_2};
use super::{Entry, EntryPoints, Refusal, admission, proposal, signature};

/// Most imports and exports that are listed.
pub(super) const NAMES_MAX: usize = 100_000;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Component or core module.
    pub kind: Kind,
    /// What it is made for: `wasi:cli/command`, `wasi:http/proxy`, `reactor`, `library`.
    pub world: String,
    /// The versions of WASI that it names: `0.2.6`, or `preview 1`.
    pub wasi: Vec<String>,
    /// Where it can begin.
    pub entry_points: EntryPoints,
    /// Why it can neither run here nor be served; `None` if it can.
    pub refusal: Option<Refusal>,
    /// Why its functions cannot be called here; `None` if they can.
    pub invoke_refusal: Option<Refusal>,
    /// What it imports.
    pub imports: Vec<Item>,
    /// What it exports.
    pub exports: Vec<Item>,
    /// The proposals beyond WebAssembly 1.0 that it uses.
    pub proposals: Vec<String>,
    /// The memory that it declares.
    pub memory: MemoryNeeds,
}

/// An import or export; the functions of one interface, or of one module name, are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ItemKind,
    /// Its functions: of an interface those in it, of a function itself.
    pub functions: Vec<Function>,
}

/// What an import or export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// An interface of a component, or a module that a core module imports functions from.
    Interface,
    /// A function.
    Function,
    /// A linear memory.
    Memory,
    /// A table.
    Table,
    /// A global variable.
    Global,
    /// An exception.
    Tag,
    /// Something of a component for which there is no word in WIT.
    Other,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its type: of a component in WIT, `func(a: s32) -> s32`, of a core module in wasm's text format,
    /// `(func (param i32) (result i32))`.
    pub ty: String,
}

impl Inspection {
    /// Inspects `wasm`.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] of what is no valid wasm. What is and cannot run is no error.
    pub(super) fn of(wasm: &[u8]) -> Result<Self, Refusal> {
        admission::check_header(wasm)?;
        let outline = Outline::of(wasm)?;
        if outline.names() > NAMES_MAX {
            return Err(Refusal::TooManyNames);
        }
        let proposal = match Validator::new_with_features(proposal::on()).validate_all(wasm) {
            Ok(_) => None,
            Err(error) => match Refusal::invalid(&error) {
                missing @ Refusal::Proposal { .. } => Some(missing),
                invalid => return Err(invalid),
            },
        };
        let invoke_refusal = admission::admit(&outline).err().or(proposal);
        let entry_points = admission::entry_points(&outline);
        let (imports, exports) = match outline.kind {
            Kind::Module => (core_imports(&outline), core_exports(&outline)),
            Kind::Component => signature::of_component(wasm).unwrap_or_else(|| {
                let named = |names: &[&str]| names.iter().map(|name| Item::named(name)).collect();
                (named(&outline.imports), named(&outline.exports))
            }),
        };
        Ok(Self {
            kind: outline.kind,
            world: world(&outline, entry_points).to_owned(),
            wasi: wasi_versions(&outline),
            entry_points,
            refusal: invoke_refusal
                .clone()
                .or_else(|| admission::refuse_entry(&outline, Entry::Task)),
            invoke_refusal,
            imports,
            exports,
            proposals: proposal::used(wasm, outline.kind),
            memory: outline.memory,
        })
    }
}

impl Item {
    /// One of which only the name is known.
    fn named(name: &str) -> Self {
        let kind = if name.contains('/') { ItemKind::Interface } else { ItemKind::Other };
        Self { name: name.to_owned(), kind, functions: Vec::new() }
    }

    fn core(name: String, ty: &CoreType) -> Self {
        let (kind, functions) = match ty {
            CoreType::Func(_) | CoreType::Unknown => {
                (ItemKind::Function, Function::core(&name, ty).into_iter().collect())
            }
            CoreType::Memory { .. } => (ItemKind::Memory, Vec::new()),
            CoreType::Table => (ItemKind::Table, Vec::new()),
            CoreType::Global => (ItemKind::Global, Vec::new()),
            CoreType::Tag => (ItemKind::Tag, Vec::new()),
        };
        Self { name, kind, functions }
    }
}

impl Function {
    fn core(name: &str, ty: &CoreType) -> Option<Self> {
        let CoreType::Func(ty) = ty else { return None };
        Some(Self { name: name.to_owned(), ty: one_line(ty) })
    }
}

/// Functions of one module, where they follow one another, are one item.
fn core_imports(outline: &Outline<'_>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for import in &outline.core_imports {
        let Some(function) = Function::core(import.name, &import.ty) else {
            items.push(Item::core(format!("{}.{}", import.module, import.name), &import.ty));
            continue;
        };
        let module = |it: &&mut Item| it.kind == ItemKind::Interface && it.name == import.module;
        match items.last_mut().filter(module) {
            Some(item) => item.functions.push(function),
            None => items.push(Item {
                name: import.module.to_owned(),
                kind: ItemKind::Interface,
                functions: vec![function],
            }),
        }
    }
    items
}

fn core_exports(outline: &Outline<'_>) -> Vec<Item> {
    let exports = outline.core_exports.iter();
    exports.map(|export| Item::core(export.name.to_owned(), &export.ty)).collect()
}

/// What the file is made for.
fn world(outline: &Outline<'_>, entry_points: EntryPoints) -> &'static str {
    let exports_interface = |interface: &str| {
        outline.exports.iter().any(|name| name.split('@').next() == Some(interface))
    };
    let initializes = outline.core_exports.iter().any(|export| export.name == "_initialize");
    match outline.kind {
        Kind::Component if exports_interface("wasi:cli/run") => "wasi:cli/command",
        Kind::Component if exports_interface("wasi:http/incoming-handler") => "wasi:http/proxy",
        Kind::Module if entry_points.command => "command",
        Kind::Module if initializes => "reactor",
        Kind::Component | Kind::Module => "library",
    }
}

/// The versions of WASI that imports and exports name, each once, in order.
fn wasi_versions(outline: &Outline<'_>) -> Vec<String> {
    let mut versions: Vec<String> = outline
        .imports
        .iter()
        .chain(&outline.exports)
        .filter(|name| name.starts_with("wasi:") || interface_0_2(name).is_some())
        .filter_map(|name| Some(name.split_once('@')?.1.to_owned()))
        .collect();
    if outline.core_imports.iter().any(|import| import.module == P1_MODULE) {
        versions.push("preview 1".to_owned());
    }
    versions.sort();
    versions.dedup();
    versions
}
