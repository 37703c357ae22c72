//! The interfaces of WASI 0.2.12, read from their text, and values of theirs in a program's memory.
//!
//! Arguments are lowered and results lifted as the canonical ABI says (`CanonicalABI.md`, "Loading",
//! "Storing", "Flattening") for the types that WASI 0.2 has.

use std::path::{Path, PathBuf};
use std::process::Command;

use wasmtime::component::Val;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{
    Function, Handle, InterfaceId, PackageId, Resolve, SizeAlign, Type, TypeDefKind, WorldId,
    WorldItem, WorldKey,
};

use super::interpreter::{Core, RETURNED};

/// A world that imports interfaces of WASI and exports `wasi:cli/run`.
pub(super) struct World {
    resolve: Resolve,
    world: WorldId,
    sizes: SizeAlign,
}

/// The interfaces that both sides have, but for sockets.
pub(super) const INTERFACES: [&str; 20] = [
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "cli/terminal-stderr",
    "io/error",
    "io/poll",
    "io/streams",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/types",
    "filesystem/preopens",
    "random/random",
    "random/insecure",
    "random/insecure-seed",
];

/// The interfaces of sockets, with those that one needs to use them.
pub(super) const SOCKETS: [&str; 12] = [
    "cli/stdin",
    "cli/stderr",
    "io/error",
    "io/poll",
    "io/streams",
    "sockets/network",
    "sockets/instance-network",
    "sockets/tcp",
    "sockets/tcp-create-socket",
    "sockets/udp",
    "sockets/udp-create-socket",
    "sockets/ip-name-lookup",
];

/// The interfaces of HTTP, with those that one needs to use them.
pub(super) const HTTP: [&str; 8] = [
    "cli/stdin",
    "cli/stderr",
    "io/error",
    "io/poll",
    "io/streams",
    "clocks/monotonic-clock",
    "http/types",
    "http/outgoing-handler",
];

impl World {
    /// The interfaces of these names (`PACKAGE/INTERFACE`), for a command.
    pub(super) fn new(interfaces: impl IntoIterator<Item = &'static str>) -> Self {
        Self::exporting("cli/run", interfaces)
    }

    /// The interfaces of these names, for a program that exports another.
    pub(super) fn exporting(
        export: &str,
        interfaces: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let mut resolve = Resolve::default();
        for feature in [
            "cli-exit-with-code",
            "clocks-timezone",
            "network-error-code",
            "informational-outbound-responses",
        ] {
            resolve.features.insert(feature.to_owned());
        }
        resolve.push_dir(wit_packages()).expect("read the interfaces of WASI");
        let imports: String = interfaces
            .into_iter()
            .map(|interface| format!("import wasi:{interface}@0.2.12;"))
            .collect();
        let package = push(
            &mut resolve,
            &format!(
                "package oracle:test; world calls {{ {imports} export wasi:{export}@0.2.12; }}"
            ),
        );
        let world = resolve.select_world(&[package], Some("calls")).expect("the world");
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        Self { resolve, world, sizes }
    }

    /// Every function that the world imports, and the end of every resource.
    pub(super) fn core_functions(&self) -> Vec<Core> {
        let mut functions = Vec::new();
        for (key, interface) in self.interfaces() {
            let module = self.resolve.name_world_key(key);
            let short = self.short_name(interface);
            for function in self.resolve.interfaces[interface].functions.values() {
                let signature = self.resolve.wasm_signature(AbiVariant::GuestImport, function);
                assert!(!signature.indirect_params, "{} has too many parameters", function.name);
                functions.push(Core {
                    module: module.clone(),
                    field: function.name.clone(),
                    name: format!("{short}/{}", plain_name(function)),
                    params: signature.params.iter().map(letter).collect(),
                    result: signature.results.first().map(letter),
                });
            }
            for (name, id) in &self.resolve.interfaces[interface].types {
                if matches!(self.resolve.types[*id].kind, TypeDefKind::Resource) {
                    functions.push(Core {
                        module: module.clone(),
                        field: format!("[resource-drop]{name}"),
                        name: format!("{short}/drop-{name}"),
                        params: "i".to_owned(),
                        result: None,
                    });
                }
            }
        }
        functions
    }

    fn interfaces(&self) -> impl Iterator<Item = (&WorldKey, InterfaceId)> {
        let imports = self.resolve.worlds[self.world].imports.iter();
        imports.filter_map(|(key, item)| match item {
            WorldItem::Interface { id, .. } => Some((key, *id)),
            _ => None,
        })
    }

    fn short_name(&self, interface: InterfaceId) -> &str {
        self.resolve.interfaces[interface].name.as_deref().unwrap_or_default()
    }

    /// The function that the tests call `name`; `None` if that is the end of a resource.
    pub(super) fn function(&self, name: &str) -> Option<&Function> {
        let (short, name) = name.split_once('/').expect("INTERFACE/NAME");
        self.interfaces()
            .filter(|(_, interface)| self.short_name(*interface) == short)
            .flat_map(|(_, interface)| self.resolve.interfaces[interface].functions.values())
            .find(|function| plain_name(function) == name)
    }

    /// The component of a core module that imports [`core_functions`](Self::core_functions).
    pub(super) fn componentize(&self, mut module: Vec<u8>) -> Vec<u8> {
        let encoding = StringEncoding::UTF8;
        wit_component::embed_component_metadata(&mut module, &self.resolve, self.world, encoding)
            .expect("describe the world");
        ComponentEncoder::default()
            .module(&module)
            .and_then(|encoder| encoder.validate(true).encode())
            .expect("encode the component")
    }

    /// The core arguments of a call, with strings and lists in `data`, which will lie at `at`.
    pub(super) fn lower(
        &self,
        function: &Function,
        arguments: &[Val],
        at: u32,
        data: &mut Vec<u8>,
    ) -> Vec<u64> {
        assert_eq!(arguments.len(), function.params.len(), "arguments of {}", function.name);
        let mut flat = Vec::new();
        for (param, argument) in function.params.iter().zip(arguments) {
            self.flatten(&param.ty, argument, at, data, &mut flat);
        }
        if self.resolve.wasm_signature(AbiVariant::GuestImport, function).retptr {
            flat.push(RETURNED.into());
        }
        flat
    }

    /// Where the handle is that a function gives: `number` is where its core result is.
    pub(super) fn handle_at(&self, function: &Function, number: u32) -> u32 {
        if !self.resolve.wasm_signature(AbiVariant::GuestImport, function).retptr {
            return number;
        }
        let align = |ty: Option<Type>| ty.map_or(1, |ty| self.sizes.align(&ty).align_wasm32());
        match function.result.as_ref().and_then(|ty| self.kind(ty)) {
            Some(TypeDefKind::Result(cases)) => {
                let align = align(cases.ok).max(align(cases.err));
                RETURNED + u32::try_from(align).expect("small")
            }
            _ => RETURNED,
        }
    }

    fn flatten(&self, ty: &Type, value: &Val, at: u32, data: &mut Vec<u8>, flat: &mut Vec<u64>) {
        match (self.kind(ty), value) {
            (_, Val::Bool(value)) => flat.push((*value).into()),
            (_, Val::U8(value)) => flat.push((*value).into()),
            (_, Val::U16(value)) => flat.push((*value).into()),
            (_, Val::U32(value)) => flat.push((*value).into()),
            (_, Val::U64(value)) => flat.push(*value),
            (_, Val::String(text)) => {
                flat.extend([u64::from(at) + data.len() as u64, text.len() as u64]);
                data.extend_from_slice(text.as_bytes());
            }
            (Some(TypeDefKind::List(element)), Val::List(values)) => {
                let start = self.store_list(element, values, at, data);
                flat.extend([u64::from(start), values.len() as u64]);
            }
            (Some(TypeDefKind::Tuple(tuple)), Val::Tuple(values)) => {
                for (ty, value) in tuple.types.iter().zip(values) {
                    self.flatten(ty, value, at, data, flat);
                }
            }
            (Some(TypeDefKind::Option(some)), Val::Option(value)) => {
                flat.push(value.is_some().into());
                let start = flat.len();
                if let Some(value) = value {
                    self.flatten(some, value, at, data, flat);
                }
                flat.resize(start + self.width(some), 0);
            }
            (Some(TypeDefKind::Record(record)), Val::Record(fields)) => {
                for (field, (_, value)) in record.fields.iter().zip(fields) {
                    self.flatten(&field.ty, value, at, data, flat);
                }
            }
            (Some(TypeDefKind::Flags(flags)), Val::Flags(set)) => {
                let bit = |name: &String| {
                    let place = flags.flags.iter().position(|flag| flag.name == *name);
                    1 << place.unwrap_or_else(|| panic!("no flag {name}"))
                };
                flat.push(set.iter().map(bit).sum());
            }
            (Some(TypeDefKind::Enum(cases)), Val::Enum(name)) => {
                let place = cases.cases.iter().position(|case| case.name == *name);
                flat.push(place.unwrap_or_else(|| panic!("no case {name}")) as u64);
            }
            (Some(TypeDefKind::Variant(variant)), Val::Variant(name, payload)) => {
                let place = variant.cases.iter().position(|case| case.name == *name);
                let place = place.unwrap_or_else(|| panic!("no case {name}"));
                flat.push(place as u64);
                let start = flat.len();
                if let (Some(ty), Some(payload)) = (&variant.cases[place].ty, payload) {
                    self.flatten(ty, payload, at, data, flat);
                }
                // The variants that WASI takes share their places among cases of the same core types.
                let room = variant.cases.iter().filter_map(|case| case.ty);
                let room = room.map(|ty| self.width(&ty)).max();
                flat.resize(start + room.unwrap_or(0), 0);
            }
            (Some(TypeDefKind::Result(cases)), Val::Result(result)) => {
                flat.push(u64::from(result.is_err()));
                let start = flat.len();
                let (ty, payload) = match result {
                    Ok(payload) => (&cases.ok, payload),
                    Err(payload) => (&cases.err, payload),
                };
                if let (Some(ty), Some(payload)) = (ty, payload) {
                    self.flatten(ty, payload, at, data, flat);
                }
                let room = [cases.ok, cases.err].into_iter().flatten().map(|ty| self.width(&ty));
                flat.resize(start + room.max().unwrap_or(0), 0);
            }
            (kind, value) => panic!("no argument of type {kind:?} is made of {value:?}"),
        }
    }

    /// Puts a list at the end of `data`, which will lie at `at`, and returns its address.
    fn store_list(&self, element: &Type, values: &[Val], at: u32, data: &mut Vec<u8>) -> u32 {
        let size = self.sizes.size(element).size_wasm32();
        let start = data.len().next_multiple_of(8);
        data.resize(start + size * values.len(), 0);
        for (index, value) in values.iter().enumerate() {
            self.store(element, value, at, data, start + index * size);
        }
        at + u32::try_from(start).expect("small")
    }

    /// Puts a value at `data[place..]`, and what it points to at the end.
    fn store(&self, ty: &Type, value: &Val, at: u32, data: &mut Vec<u8>, place: usize) {
        let fields = |types: &[&Type]| -> Vec<usize> {
            let offsets = self.sizes.field_offsets(types.iter().copied());
            offsets.iter().map(|(offset, _)| place + offset.size_wasm32()).collect()
        };
        let payload = |cases: &[&Type]| {
            place + cases.iter().map(|ty| self.sizes.align(ty).align_wasm32()).max().unwrap_or(1)
        };
        match (self.kind(ty), value) {
            (Some(TypeDefKind::List(element)), Val::List(values)) => {
                let start = self.store_list(element, values, at, data);
                let len = u32::try_from(values.len()).expect("small");
                data[place..][..4].copy_from_slice(&start.to_le_bytes());
                data[place + 4..][..4].copy_from_slice(&len.to_le_bytes());
            }
            (Some(TypeDefKind::Record(record)), Val::Record(values)) => {
                let types: Vec<_> = record.fields.iter().map(|field| &field.ty).collect();
                for ((ty, (_, value)), place) in types.iter().zip(values).zip(fields(&types)) {
                    self.store(ty, value, at, data, place);
                }
            }
            (Some(TypeDefKind::Tuple(tuple)), Val::Tuple(values)) => {
                let types: Vec<_> = tuple.types.iter().collect();
                for ((ty, value), place) in types.iter().zip(values).zip(fields(&types)) {
                    self.store(ty, value, at, data, place);
                }
            }
            (Some(TypeDefKind::Option(some)), Val::Option(value)) => {
                data[place] = value.is_some().into();
                if let Some(value) = value {
                    self.store(some, value, at, data, payload(&[some]));
                }
            }
            (Some(TypeDefKind::Variant(variant)), Val::Variant(name, value)) => {
                let case = variant.cases.iter().position(|case| case.name == *name);
                let case = case.unwrap_or_else(|| panic!("no case {name}"));
                let types: Vec<_> =
                    variant.cases.iter().filter_map(|case| case.ty.as_ref()).collect();
                data[place] = u8::try_from(case).expect("few cases");
                if let (Some(ty), Some(value)) = (&variant.cases[case].ty, value) {
                    self.store(ty, value, at, data, payload(&types));
                }
            }
            (_, Val::String(text)) => {
                let start = at + u32::try_from(data.len()).expect("small");
                let len = u32::try_from(text.len()).expect("small");
                data.extend_from_slice(text.as_bytes());
                data[place..][..4].copy_from_slice(&start.to_le_bytes());
                data[place + 4..][..4].copy_from_slice(&len.to_le_bytes());
            }
            (_, value) => {
                let mut number = Vec::new();
                self.flatten(ty, value, at, &mut Vec::new(), &mut number);
                let size = self.sizes.size(ty).size_wasm32();
                data[place..][..size].copy_from_slice(&number[0].to_le_bytes()[..size]);
            }
        }
    }

    /// Core values that a type flattens to.
    fn width(&self, ty: &Type) -> usize {
        match self.kind(ty) {
            Some(TypeDefKind::Record(record)) => {
                record.fields.iter().map(|field| self.width(&field.ty)).sum()
            }
            Some(TypeDefKind::Tuple(tuple)) => tuple.types.iter().map(|ty| self.width(ty)).sum(),
            Some(TypeDefKind::Variant(variant)) => {
                let cases = variant.cases.iter().filter_map(|case| case.ty);
                1 + cases.map(|ty| self.width(&ty)).max().unwrap_or(0)
            }
            Some(TypeDefKind::Option(some)) => 1 + self.width(some),
            Some(TypeDefKind::List(_)) => 2,
            None if self.plain(ty) == Type::String => 2,
            _ => 1,
        }
    }

    /// What a call returned: `number` is its core result, `read` reads memory at an address.
    pub(super) fn lift(
        &self,
        function: &Function,
        number: u64,
        read: &dyn Fn(u32, usize) -> Vec<u8>,
    ) -> Option<Val> {
        let ty = function.result?;
        if self.resolve.wasm_signature(AbiVariant::GuestImport, function).retptr {
            return Some(self.load(&ty, RETURNED, read));
        }
        // A single number is what its bytes are in memory.
        Some(self.load(&ty, 0, &|at, len| number.to_le_bytes()[at as usize..][..len].to_vec()))
    }

    fn load(&self, ty: &Type, at: u32, read: &dyn Fn(u32, usize) -> Vec<u8>) -> Val {
        let number = |at: u32, bytes: usize| {
            let mut word = [0; 8];
            word[..bytes].copy_from_slice(&read(at, bytes));
            u64::from_le_bytes(word)
        };
        let word = |at: u32| u32::try_from(number(at, 4)).expect("4 bytes");
        let tag = |cases: usize| if cases <= 256 { 1 } else { 2 };
        let payload = |cases: &[Option<&Type>]| {
            let align = cases.iter().flatten().map(|ty| self.sizes.align(ty).align_wasm32()).max();
            at + u32::try_from(align.unwrap_or(1)).expect("small")
        };
        match &self.plain(ty) {
            Type::Bool => return Val::Bool(number(at, 1) != 0),
            Type::U8 => return Val::U8(read(at, 1)[0]),
            Type::U16 => return Val::U16(u16::try_from(number(at, 2)).expect("2 bytes")),
            Type::U32 => return Val::U32(word(at)),
            Type::S32 => return Val::S32(word(at).cast_signed()),
            Type::U64 => return Val::U64(number(at, 8)),
            Type::String => {
                let bytes = read(word(at), word(at + 4) as usize);
                return Val::String(String::from_utf8(bytes).expect("strings are UTF-8"));
            }
            _ => {}
        }
        let fields = |types: &[&Type]| -> Vec<Val> {
            let offsets = self.sizes.field_offsets(types.iter().copied());
            let place = |offset: usize| at + u32::try_from(offset).expect("small");
            let load = |(offset, ty): &(wit_parser::ArchitectureSize, &Type)| {
                self.load(ty, place(offset.size_wasm32()), read)
            };
            offsets.iter().map(load).collect()
        };
        let optional = |ty: &Option<Type>, at| ty.map(|ty| Box::new(self.load(&ty, at, read)));
        match self.kind(ty).unwrap_or_else(|| panic!("no result is a {ty:?}")) {
            TypeDefKind::Handle(Handle::Own(_) | Handle::Borrow(_)) => Val::U32(word(at)),
            TypeDefKind::List(element) if self.plain(element) == Type::U8 => {
                let bytes = read(word(at), word(at + 4) as usize);
                Val::List(bytes.into_iter().map(Val::U8).collect())
            }
            TypeDefKind::List(element) => {
                let size = u32::try_from(self.sizes.size(element).size_wasm32()).expect("small");
                let start = word(at);
                let places = (0..word(at + 4)).map(|index| start + index * size);
                Val::List(places.map(|at| self.load(element, at, read)).collect())
            }
            TypeDefKind::Tuple(tuple) => {
                Val::Tuple(fields(&tuple.types.iter().collect::<Vec<_>>()))
            }
            TypeDefKind::Record(record) => {
                let types: Vec<_> = record.fields.iter().map(|field| &field.ty).collect();
                let names = record.fields.iter().map(|field| field.name.clone());
                Val::Record(names.zip(fields(&types)).collect())
            }
            TypeDefKind::Flags(flags) => {
                let bytes = self.sizes.size(ty).size_wasm32();
                let set = number(at, bytes);
                let named = flags.flags.iter().enumerate();
                let set = named.filter(|(bit, _)| set >> bit & 1 != 0);
                Val::Flags(set.map(|(_, flag)| flag.name.clone()).collect())
            }
            TypeDefKind::Enum(cases) => {
                let place = usize::try_from(number(at, tag(cases.cases.len()))).expect("small");
                Val::Enum(cases.cases[place].name.clone())
            }
            TypeDefKind::Variant(variant) => {
                let place = usize::try_from(number(at, tag(variant.cases.len()))).expect("small");
                let cases: Vec<_> = variant.cases.iter().map(|case| case.ty.as_ref()).collect();
                let case = &variant.cases[place];
                Val::Variant(case.name.clone(), optional(&case.ty, payload(&cases)))
            }
            TypeDefKind::Option(some) => {
                let is_some = number(at, 1) != 0;
                Val::Option(
                    is_some.then(|| Box::new(self.load(some, payload(&[Some(some)]), read))),
                )
            }
            TypeDefKind::Result(result) => {
                let at_payload = payload(&[result.ok.as_ref(), result.err.as_ref()]);
                Val::Result(match number(at, 1) {
                    0 => Ok(optional(&result.ok, at_payload)),
                    _ => Err(optional(&result.err, at_payload)),
                })
            }
            kind => panic!("no result is a {kind:?}"),
        }
    }

    /// A type behind its names.
    fn plain(&self, ty: &Type) -> Type {
        match ty {
            Type::Id(id) => match &self.resolve.types[*id].kind {
                TypeDefKind::Type(ty) => self.plain(ty),
                _ => *ty,
            },
            _ => *ty,
        }
    }

    /// What a type that has a name of its own is made of.
    fn kind(&self, ty: &Type) -> Option<&TypeDefKind> {
        match self.plain(ty) {
            Type::Id(id) => Some(&self.resolve.types[id].kind),
            _ => None,
        }
    }
}

/// A function's name without what it is.
fn plain_name(function: &Function) -> &str {
    let name = function.name.trim_start_matches("[method]").trim_start_matches("[static]");
    name.trim_start_matches("[constructor]")
}

fn letter(ty: &WasmType) -> char {
    match ty {
        WasmType::I64 | WasmType::PointerOrI64 => 'I',
        WasmType::I32 | WasmType::Pointer | WasmType::Length => 'i',
        WasmType::F32 | WasmType::F64 => panic!("WASI has no functions of floating point"),
    }
}

fn push(resolve: &mut Resolve, text: &str) -> PackageId {
    resolve.push_str("calls.wit", text).expect("the world of the tests")
}

/// The `wit` folder of the `wasip2` crate from which the library OS has its bindings.
fn wit_packages() -> PathBuf {
    let libos = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest/libos");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(libos)
        .output()
        .expect("run cargo metadata");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let wasip2 = packages.iter().find(|package| package["name"] == "wasip2").expect("wasip2");
    let manifest = wasip2["manifest_path"].as_str().expect("a path");
    Path::new(manifest).with_file_name("wit")
}
