//! Between the values of Wasmtime and those of WAVE.
//!
//! Resources, futures and streams have no text form.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wasm_wave::value::{Type, Value};
use wasm_wave::wasm::{WasmType, WasmTypeKind, WasmValue, WasmValueError};
use wasmtime::component::{self, Val};
use wasmtime::{Error, Result};

fn no_text(what: &str) -> Error {
    Error::msg(format!("a {what} has no text form"))
}

/// The type in WAVE.
pub(super) fn type_of(ty: &component::Type) -> Result<Type> {
    let optional = |ty: Option<component::Type>| ty.map(|ty| type_of(&ty)).transpose();
    let made = match ty {
        component::Type::Bool => Some(Type::BOOL),
        component::Type::S8 => Some(Type::S8),
        component::Type::U8 => Some(Type::U8),
        component::Type::S16 => Some(Type::S16),
        component::Type::U16 => Some(Type::U16),
        component::Type::S32 => Some(Type::S32),
        component::Type::U32 => Some(Type::U32),
        component::Type::S64 => Some(Type::S64),
        component::Type::U64 => Some(Type::U64),
        component::Type::Float32 => Some(Type::F32),
        component::Type::Float64 => Some(Type::F64),
        component::Type::Char => Some(Type::CHAR),
        component::Type::String => Some(Type::STRING),
        component::Type::List(list) => Some(Type::list(type_of(&list.ty())?)),
        component::Type::Record(record) => {
            let fields = record
                .fields()
                .map(|field| Ok((field.name, type_of(&field.ty)?)))
                .collect::<Result<Vec<_>>>()?;
            Type::record(fields)
        }
        component::Type::Tuple(tuple) => {
            Type::tuple(tuple.types().map(|ty| type_of(&ty)).collect::<Result<Vec<_>>>()?)
        }
        component::Type::Variant(variant) => {
            let cases = variant
                .cases()
                .map(|case| Ok((case.name, optional(case.ty)?)))
                .collect::<Result<Vec<_>>>()?;
            Type::variant(cases)
        }
        component::Type::Enum(names) => Type::enum_ty(names.names()),
        component::Type::Option(option) => Some(Type::option(type_of(&option.ty())?)),
        component::Type::Result(result) => {
            Some(Type::result(optional(result.ok())?, optional(result.err())?))
        }
        component::Type::Flags(flags) => Type::flags(flags.names()),
        other => return Err(no_text(&format!("value of type {other:?}"))),
    };
    made.ok_or_else(|| no_text("type without fields or cases"))
}

/// A value that was read.
pub(super) fn val(value: &Value) -> Result<Val> {
    let boxed = |value: Option<Cow<'_, Value>>| -> Result<Option<Box<Val>>> {
        value.map(|value| val(&value).map(Box::new)).transpose()
    };
    Ok(match value.kind() {
        WasmTypeKind::Bool => Val::Bool(value.unwrap_bool()),
        WasmTypeKind::S8 => Val::S8(value.unwrap_s8()),
        WasmTypeKind::U8 => Val::U8(value.unwrap_u8()),
        WasmTypeKind::S16 => Val::S16(value.unwrap_s16()),
        WasmTypeKind::U16 => Val::U16(value.unwrap_u16()),
        WasmTypeKind::S32 => Val::S32(value.unwrap_s32()),
        WasmTypeKind::U32 => Val::U32(value.unwrap_u32()),
        WasmTypeKind::S64 => Val::S64(value.unwrap_s64()),
        WasmTypeKind::U64 => Val::U64(value.unwrap_u64()),
        WasmTypeKind::F32 => Val::Float32(value.unwrap_f32()),
        WasmTypeKind::F64 => Val::Float64(value.unwrap_f64()),
        WasmTypeKind::Char => Val::Char(value.unwrap_char()),
        WasmTypeKind::String => Val::String(value.unwrap_string().into_owned()),
        WasmTypeKind::List => {
            Val::List(value.unwrap_list().map(|value| val(&value)).collect::<Result<Vec<_>>>()?)
        }
        WasmTypeKind::Record => Val::Record(
            value
                .unwrap_record()
                .map(|(name, value)| Ok((name.into_owned(), val(&value)?)))
                .collect::<Result<Vec<_>>>()?,
        ),
        WasmTypeKind::Tuple => {
            Val::Tuple(value.unwrap_tuple().map(|value| val(&value)).collect::<Result<Vec<_>>>()?)
        }
        WasmTypeKind::Variant => {
            let (case, payload) = value.unwrap_variant();
            Val::Variant(case.into_owned(), boxed(payload)?)
        }
        WasmTypeKind::Enum => Val::Enum(value.unwrap_enum().into_owned()),
        WasmTypeKind::Option => Val::Option(boxed(value.unwrap_option())?),
        WasmTypeKind::Result => Val::Result(match value.unwrap_result() {
            Ok(payload) => Ok(boxed(payload)?),
            Err(payload) => Err(boxed(payload)?),
        }),
        WasmTypeKind::Flags => Val::Flags(value.unwrap_flags().map(Cow::into_owned).collect()),
        other => return Err(no_text(&other.to_string())),
    })
}

/// A value to be printed.
pub(super) fn value(val: &Val, ty: &Type) -> Result<Value> {
    let payload = |val: &Option<Box<Val>>, ty: Option<Type>| match (val, ty) {
        (Some(val), Some(ty)) => value(val, &ty).map(Some),
        _ => Ok(None),
    };
    let wrong = |error: WasmValueError| Error::msg(format!("print the result: {error}"));
    let all = |vals: &[Val], types: &mut dyn Iterator<Item = Type>| {
        vals.iter().zip(types).map(|(val, ty)| value(val, &ty)).collect::<Result<Vec<_>>>()
    };
    match val {
        Val::Bool(value) => Ok(Value::make_bool(*value)),
        Val::S8(value) => Ok(Value::make_s8(*value)),
        Val::U8(value) => Ok(Value::make_u8(*value)),
        Val::S16(value) => Ok(Value::make_s16(*value)),
        Val::U16(value) => Ok(Value::make_u16(*value)),
        Val::S32(value) => Ok(Value::make_s32(*value)),
        Val::U32(value) => Ok(Value::make_u32(*value)),
        Val::S64(value) => Ok(Value::make_s64(*value)),
        Val::U64(value) => Ok(Value::make_u64(*value)),
        Val::Float32(value) => Ok(Value::make_f32(*value)),
        Val::Float64(value) => Ok(Value::make_f64(*value)),
        Val::Char(value) => Ok(Value::make_char(*value)),
        Val::String(value) => Ok(Value::make_string(value.as_str().into())),
        Val::List(vals) => {
            let element = ty.list_element_type().ok_or_else(|| no_text("list"))?;
            let values = all(vals, &mut core::iter::repeat(element))?;
            Value::make_list(ty, values).map_err(wrong)
        }
        Val::Record(fields) => {
            let types: Vec<Type> = ty.record_fields().map(|(_, ty)| ty).collect();
            let values = fields
                .iter()
                .zip(types)
                .map(|((name, val), ty)| Ok((name.as_str(), value(val, &ty)?)))
                .collect::<Result<Vec<_>>>()?;
            Value::make_record(ty, values).map_err(wrong)
        }
        Val::Tuple(vals) => {
            let values = all(vals, &mut ty.tuple_element_types())?;
            Value::make_tuple(ty, values).map_err(wrong)
        }
        Val::Variant(case, val) => {
            let of_case = ty.variant_cases().find(|(name, _)| name == case);
            let val = payload(val, of_case.and_then(|(_, ty)| ty))?;
            Value::make_variant(ty, case, val).map_err(wrong)
        }
        Val::Enum(case) => Value::make_enum(ty, case).map_err(wrong),
        Val::Option(val) => {
            let val = payload(val, ty.option_some_type())?;
            Value::make_option(ty, val).map_err(wrong)
        }
        Val::Result(result) => {
            let (ok, err) = ty.result_types().unwrap_or_default();
            let result = match result {
                Ok(val) => Ok(payload(val, ok)?),
                Err(val) => Err(payload(val, err)?),
            };
            Value::make_result(ty, result).map_err(wrong)
        }
        Val::Flags(names) => Value::make_flags(ty, names.iter().map(String::as_str)).map_err(wrong),
        other => Err(no_text(&format!("{other:?}"))),
    }
}
