//! What a file is: component or core module, its imports and exports, the memory it declares.
//!
//! Rule: parsed once, without judging. Names are as the file has them; whoever prints one escapes it.
//! Everything collected is smaller than the file, and the file has a size that is accepted. Whether the
//! bytes are valid wasm is left to the validator.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use wasmtime::wasmparser::{
    self, CompositeInnerType, Encoding, ExternalKind, FuncType, Parser, Payload, TypeRef,
};

use super::Refusal;

/// The two kinds of WebAssembly binaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A component (component model, layer 1).
    Component,
    /// A core module (layer 0).
    Module,
}

/// What a file is.
#[derive(Debug)]
pub(super) struct Outline<'a> {
    pub(super) kind: Kind,
    /// Imports of a component, in order.
    pub(super) imports: Vec<&'a str>,
    /// Exports of a component, in order.
    pub(super) exports: Vec<&'a str>,
    /// Imports of a core module, in order.
    pub(super) core_imports: Vec<CoreImport<'a>>,
    /// Exports of a core module, in order.
    pub(super) core_exports: Vec<CoreExport<'a>>,
    /// What it and the modules within it declare.
    pub(super) memory: MemoryNeeds,
}

/// What a core module imports.
#[derive(Debug)]
pub(super) struct CoreImport<'a> {
    pub(super) module: &'a str,
    pub(super) name: &'a str,
    pub(super) ty: CoreType,
}

/// What a core module exports.
#[derive(Debug)]
pub(super) struct CoreExport<'a> {
    pub(super) name: &'a str,
    pub(super) ty: CoreType,
}

/// What an import or export of a core module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CoreType {
    Func(Rc<FuncType>),
    Memory {
        shared: bool,
    },
    Table,
    Global,
    Tag,
    /// Its type index names no function type: the file is invalid.
    Unknown,
}

impl CoreType {
    /// The kind, for a message.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Func(_) | Self::Unknown => "function",
            Self::Memory { shared: true } => "shared memory",
            Self::Memory { shared: false } => "memory",
            Self::Table => "table",
            Self::Global => "global",
            Self::Tag => "tag",
        }
    }
}

/// The memory that a file declares, all its modules together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNeeds {
    /// The linear memories that are not imported, in order.
    pub memories: Vec<Limits>,
    /// The tables that are not imported, in elements, in order.
    pub tables: Vec<Limits>,
    /// Bytes of data segments.
    pub data_bytes: u64,
}

/// A size at start, and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// At start.
    pub min: u64,
    /// At most; none is declared if `None`.
    pub max: Option<u64>,
}

/// log2 of the bytes of a page of linear memory (core specification, 4.2.8).
const PAGE_SIZE_LOG2: u32 = 16;

/// Deepest nesting of components, as deep as that of types that wasmparser takes. Composition makes a
/// handful of levels; each costs the validator all that are around it.
const NESTING_MAX: u32 = 100;

impl<'a> Outline<'a> {
    /// Parses `wasm`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] where it cannot be parsed.
    pub(super) fn of(wasm: &'a [u8]) -> Result<Self, Refusal> {
        let mut outline = Self {
            kind: Kind::Module,
            imports: Vec::new(),
            exports: Vec::new(),
            core_imports: Vec::new(),
            core_exports: Vec::new(),
            memory: MemoryNeeds::default(),
        };
        let mut depth = 0_u32;
        let mut module = CoreIndices::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(|error| Refusal::invalid(&error))? {
                Payload::Version { encoding: Encoding::Component, .. } if depth == 0 => {
                    outline.kind = Kind::Component;
                }
                Payload::ModuleSection { parser, .. }
                | Payload::ComponentSection { parser, .. } => {
                    depth += 1;
                    if depth > NESTING_MAX {
                        return Err(Refusal::Invalid {
                            reason: format!("components nested deeper than {NESTING_MAX}"),
                            offset: parser.offset(),
                        });
                    }
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                payload => outline
                    .add(payload, depth == 0, &mut module)
                    .map_err(|error| Refusal::invalid(&error))?,
            }
        }
        Ok(outline)
    }

    /// How many imports and exports there are.
    pub(super) fn names(&self) -> usize {
        let lists = [self.core_imports.len(), self.core_exports.len()];
        lists.iter().sum::<usize>() + self.imports.len() + self.exports.len()
    }

    /// Adds what one section says. `outermost` is whether it is one of the file's own.
    fn add(
        &mut self,
        payload: Payload<'a>,
        outermost: bool,
        indices: &mut CoreIndices,
    ) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::ComponentImportSection(section) if outermost => {
                for import in section {
                    self.imports.push(import?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if outermost => {
                for export in section {
                    self.exports.push(export?.name.name);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    let log2 = memory.page_size_log2.unwrap_or(PAGE_SIZE_LOG2);
                    let page = 1_u64.checked_shl(log2).unwrap_or(u64::MAX);
                    let bytes = |pages: u64| pages.saturating_mul(page);
                    let limits =
                        Limits { min: bytes(memory.initial), max: memory.maximum.map(bytes) };
                    self.memory.memories.push(limits);
                    indices.memories.push(memory.shared);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let ty = table?.ty;
                    self.memory.tables.push(Limits { min: ty.initial, max: ty.maximum });
                }
            }
            Payload::DataSection(section) => {
                for data in section {
                    self.memory.data_bytes += data?.data.len() as u64;
                }
            }
            Payload::TypeSection(section) if outermost => {
                for group in section {
                    for sub_type in group?.into_types() {
                        indices.types.push(match sub_type.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(Rc::new(ty)),
                            _ => None,
                        });
                    }
                }
            }
            Payload::ImportSection(section) if outermost => {
                for import in section.into_imports() {
                    let import = import?;
                    let ty = indices.import(import.ty);
                    let (module, name) = (import.module, import.name);
                    self.core_imports.push(CoreImport { module, name, ty });
                }
            }
            Payload::FunctionSection(section) if outermost => {
                for ty in section {
                    indices.functions.push(ty?);
                }
            }
            Payload::ExportSection(section) if outermost => {
                for export in section {
                    let export = export?;
                    let ty = indices.export(export.kind, export.index);
                    self.core_exports.push(CoreExport { name: export.name, ty });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The index spaces of the outermost core module.
#[derive(Debug, Default)]
struct CoreIndices {
    /// Shared, because any number of functions can have one long type.
    types: Vec<Option<Rc<FuncType>>>,
    /// Type index of each function.
    functions: Vec<u32>,
    /// Whether each memory is shared.
    memories: Vec<bool>,
}

impl CoreIndices {
    fn import(&mut self, ty: TypeRef) -> CoreType {
        match ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                self.functions.push(index);
                self.function(index)
            }
            TypeRef::Memory(memory) => {
                self.memories.push(memory.shared);
                CoreType::Memory { shared: memory.shared }
            }
            TypeRef::Table(_) => CoreType::Table,
            TypeRef::Global(_) => CoreType::Global,
            TypeRef::Tag(_) => CoreType::Tag,
        }
    }

    fn export(&self, kind: ExternalKind, index: u32) -> CoreType {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                get(&self.functions, index).map_or(CoreType::Unknown, |ty| self.function(*ty))
            }
            ExternalKind::Memory => {
                let shared = get(&self.memories, index).is_some_and(|shared| *shared);
                CoreType::Memory { shared }
            }
            ExternalKind::Table => CoreType::Table,
            ExternalKind::Global => CoreType::Global,
            ExternalKind::Tag => CoreType::Tag,
        }
    }

    fn function(&self, type_index: u32) -> CoreType {
        match get(&self.types, type_index) {
            Some(Some(ty)) => CoreType::Func(Rc::clone(ty)),
            _ => CoreType::Unknown,
        }
    }
}

fn get<T>(list: &[T], index: u32) -> Option<&T> {
    list.get(usize::try_from(index).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn a_module_is_told_by_what_it_imports_exports_and_declares() {
        let wasm = binary(
            r#"(module
                (type (struct)) (type $f (func (param i32) (result i64)))
                (import "m" "f" (func $f (type $f))) (import "m" "t" (table 1 funcref))
                (memory 2 3) (table 5 funcref) (data "four") (data (memory 0) (i32.const 0) "two")
                (export "g" (func $f)) (export "memory" (memory 0)))"#,
        );
        let outline = Outline::of(&wasm).unwrap();
        assert_eq!(outline.kind, Kind::Module);
        let imports: Vec<_> =
            outline.core_imports.iter().map(|it| (it.module, it.name, it.ty.kind())).collect();
        assert_eq!(imports, [("m", "f", "function"), ("m", "t", "table")]);
        let CoreType::Func(ty) = &outline.core_exports[0].ty else { panic!("{outline:?}") };
        assert_eq!(ty.to_string(), "(func (param i32) (result i64))");
        assert_eq!(outline.core_exports[1].ty, CoreType::Memory { shared: false });
        assert_eq!(outline.memory.memories, [Limits { min: 2 << 16, max: Some(3 << 16) }]);
        assert_eq!(outline.memory.tables, [Limits { min: 5, max: None }]);
        assert_eq!(outline.memory.data_bytes, 7);
    }

    #[test]
    fn the_modules_within_a_component_count_for_memory_and_for_nothing_else() {
        let wasm = binary(
            r#"(component
                (import "a" (func)) (core module (memory 1) (func (export "inner")))
                (component (import "b" (func)) (core module (import "c" "d" (func)) (memory 2))))"#,
        );
        let outline = Outline::of(&wasm).unwrap();
        assert_eq!((outline.kind, outline.imports), (Kind::Component, vec!["a"]));
        assert!(outline.core_imports.is_empty() && outline.core_exports.is_empty());
        assert_eq!(outline.memory.memories.len(), 2);
    }

    #[test]
    fn a_memory_of_more_bytes_than_there_are_is_no_overflow() {
        let wasm = binary("(module (memory i64 0x1000000000000))");
        assert_eq!(Outline::of(&wasm).unwrap().memory.memories[0].min, u64::MAX);
    }

    #[test]
    fn components_within_components_have_an_end() {
        let nested = |levels: usize| {
            let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
            for _ in 0..levels {
                // A section of a component: its number, its length as LEB128 of two bytes, itself.
                let len = u16::try_from(wasm.len()).unwrap();
                let len = [len.to_le_bytes()[0] | 0x80, u8::try_from(len >> 7).unwrap()];
                wasm = [b"\0asm\x0d\0\x01\0\x04", &len[..], &wasm].concat();
            }
            wasm
        };
        assert!(Outline::of(&nested(100)).is_ok());
        let refusal = Outline::of(&nested(101)).unwrap_err().to_string();
        assert!(refusal.contains("nested deeper than 100"), "{refusal}");
    }
}
