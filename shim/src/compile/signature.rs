//! The imports and exports of a component in the words of WIT.
//!
//! Rule: what WIT has no words for, or what its reader cannot take, is left to the caller, who knows the
//! names. The reader may panic at a component that no toolchain makes; this is not one of its errors.

use std::fmt::Write as _;
use std::panic::catch_unwind;

use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Handle, IndexMap, Resolve, Type, TypeDefKind, TypeId, WorldItem, WorldKey};

use super::inspection::{Function, Item, ItemKind};
use super::refusal::one_line;

/// Deepest type that is written out.
const DEPTH_MAX: u32 = 16;

/// Imports and exports; `None` if they cannot be told in WIT.
pub(super) fn of_component(wasm: &[u8]) -> Option<(Vec<Item>, Vec<Item>)> {
    let decoded = catch_unwind(|| decode(wasm)).ok()?.ok()?;
    let DecodedWasm::Component(resolve, world) = decoded else { return None };
    let world = resolve.worlds.get(world)?;
    let items = |items: &IndexMap<WorldKey, WorldItem>| {
        items.iter().filter_map(|(key, item)| of_item(&resolve, key, item)).collect()
    };
    Some((items(&world.imports), items(&world.exports)))
}

/// `None` for a type: nothing that can be called or provided.
fn of_item(resolve: &Resolve, key: &WorldKey, item: &WorldItem) -> Option<Item> {
    let (kind, name, functions) = match item {
        WorldItem::Type { .. } => return None,
        WorldItem::Function(function) => {
            (ItemKind::Function, function.name.clone(), vec![of_function(resolve, function)])
        }
        WorldItem::Interface { id, .. } => {
            let name = match key {
                WorldKey::Name(name) => name.clone(),
                WorldKey::Interface(id) => resolve.id_of(*id)?,
            };
            let functions = resolve.interfaces.get(*id)?.functions.values();
            let functions = functions.map(|function| of_function(resolve, function)).collect();
            (ItemKind::Interface, name, functions)
        }
    };
    Some(Item { name, kind, functions })
}

fn of_function(resolve: &Resolve, function: &wit_parser::Function) -> Function {
    let mut ty = "func(".to_owned();
    for (index, param) in function.params.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(ty, "{comma}{}: ", param.name);
        write_type(&mut ty, resolve, &param.ty, 0);
    }
    ty.push(')');
    if let Some(result) = &function.result {
        ty.push_str(" -> ");
        write_type(&mut ty, resolve, result, 0);
    }
    Function { name: function.name.clone(), ty: one_line(&ty) }
}

/// Writes a type as WIT has it: by its name if it has one.
fn write_type(out: &mut String, resolve: &Resolve, ty: &Type, depth: u32) {
    let word = match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(id) => return write_defined(out, resolve, *id, depth),
    };
    out.push_str(word);
}

fn write_defined(out: &mut String, resolve: &Resolve, id: TypeId, depth: u32) {
    let Some(definition) = resolve.types.get(id).filter(|_| depth < DEPTH_MAX) else {
        return out.push_str("...");
    };
    if let Some(name) = &definition.name {
        return out.push_str(name);
    }
    let kind = &definition.kind;
    let parts: Vec<Option<&Type>> = match kind {
        TypeDefKind::Handle(Handle::Own(id)) => return write_defined(out, resolve, *id, depth + 1),
        TypeDefKind::Handle(Handle::Borrow(id)) => {
            out.push_str("borrow<");
            write_defined(out, resolve, *id, depth + 1);
            return out.push('>');
        }
        TypeDefKind::Type(ty) => return write_type(out, resolve, ty, depth + 1),
        TypeDefKind::Tuple(tuple) => tuple.types.iter().map(Some).collect(),
        TypeDefKind::Option(ty) | TypeDefKind::List(ty) => vec![Some(ty)],
        TypeDefKind::Result(result) => match (&result.ok, &result.err) {
            (ok, None) => ok.iter().map(Some).collect(),
            (ok, err) => vec![ok.as_ref(), err.as_ref()],
        },
        // The others have names, or are of proposals that are off.
        _ => Vec::new(),
    };
    out.push_str(kind.as_str());
    for (index, part) in parts.iter().enumerate() {
        out.push_str(if index == 0 { "<" } else { ", " });
        match part {
            Some(ty) => write_type(out, resolve, ty, depth + 1),
            None => out.push('_'),
        }
    }
    if !parts.is_empty() {
        out.push('>');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exported(function: &str, core: &str) -> Vec<Item> {
        let text = format!(
            r#"(component
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                    (func (export "f") {core} unreachable))
                (core instance $i (instantiate $m))
                {function})"#
        );
        of_component(&wat::parse_str(text).unwrap()).unwrap().1
    }

    #[test]
    fn a_function_is_told_in_wit() {
        let items = exported(
            r#"(func (export "f") (param "a" s32) (param "who" string)
                (result (result (list (tuple u8 string)) (error (option f64))))
                (canon lift (core func $i "f")
                    (memory $i "memory") (realloc (func $i "realloc"))))"#,
            "(param i32 i32 i32) (result i32)",
        );
        assert_eq!(items[0].kind, ItemKind::Function);
        let Function { name, ty } = &items[0].functions[0];
        assert_eq!(name, "f");
        let result = "result<list<tuple<u8, string>>, option<f64>>";
        assert_eq!(*ty, format!("func(a: s32, who: string) -> {result}"));
    }

    #[test]
    fn a_result_without_a_value_has_none_in_wit() {
        let of = |result: &str| {
            let function = format!(
                r#"(func (export "f") (result {result}) (canon lift (core func $i "f")
                    (memory $i "memory") (realloc (func $i "realloc"))))"#
            );
            exported(&function, "(result i32)")[0].functions[0].ty.clone()
        };
        assert_eq!(of("(result)"), "func() -> result");
        assert_eq!(of("(result (error string))"), "func() -> result<_, string>");
        assert_eq!(of("(result string)"), "func() -> result<string>");
    }

    #[test]
    fn an_interface_has_its_functions() {
        let items = exported(
            r#"(func $f (result u32) (canon lift (core func $i "f")))
               (instance $n (export "one" (func $f)) (export "two" (func $f)))
               (export "my:own/numbers@1.0.0" (instance $n))"#,
            "(result i32)",
        );
        assert_eq!(items[0].name, "my:own/numbers@1.0.0");
        let functions: Vec<_> = items[0].functions.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(functions, ["one", "two"]);
    }
}
