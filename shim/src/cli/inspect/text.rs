//! An inspection for people.
//!
//! Rule: whatever comes from the file is escaped: a name cannot move the cursor.

use std::fmt::Write;

use super::Compiled;
use super::grants::Grants;
use crate::aot::Wasm;
use crate::compile::{Inspection, Item, ItemKind, Kind, Limits, MemoryNeeds, one_line};
use crate::workload::{MEMORY_BYTES_DEFAULT, size};

/// Columns that a list is broken at.
const COLUMNS: usize = 100;

/// The inspection as lines.
pub(super) fn of(wasm: &Wasm, inspection: &Inspection, compiled: Option<&Compiled>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, wasm, inspection, compiled);
    text
}

fn write(
    out: &mut String,
    wasm: &Wasm,
    inspection: &Inspection,
    compiled: Option<&Compiled>,
) -> std::fmt::Result {
    let kind = match inspection.kind {
        Kind::Component => "component",
        Kind::Module => "core module",
    };
    write!(out, "{}: {kind}, {}", one_line(&wasm.name()), inspection.world)?;
    if !inspection.wasi.is_empty() {
        write!(out, ", WASI {}", one_line(&inspection.wasi.join(" and ")))?;
    }
    writeln!(out, "\n")?;
    field(out, "runs", &runs(inspection))?;
    field(out, "size", &format!("{} ({} bytes)", size(wasm.bytes()), wasm.bytes()))?;
    field(out, "digest", &format!("sha256:{}", wasm.sha256()))?;
    let compiled = compiled.map(|it| format!("{}: {}", size(it.bytes), it.path));
    field(out, "compiled", compiled.as_deref().unwrap_or("not in the cache"))?;
    field(out, "memory", &memory(&inspection.memory))?;
    field(out, "proposals", &listed(&inspection.proposals))?;
    let grants = Grants::of(inspection);
    field(out, "granted", &listed(&grants.by_default))?;
    for (option, what) in grants.by_options {
        field(out, "on request", &format!("{what}, with {option}"))?;
    }
    if !grants.never.is_empty() {
        field(out, "not here", &listed(&grants.never))?;
    }
    writeln!(out, "\nimports")?;
    items(out, &inspection.imports, false)?;
    writeln!(out, "\nexports")?;
    items(out, &inspection.exports, true)
}

fn runs(inspection: &Inspection) -> String {
    let points = inspection.entry_points;
    match (&inspection.refusal, &inspection.invoke_refusal) {
        (None, _) if points.command && points.handler => "yes, and serves requests".to_owned(),
        (None, _) if points.handler => "by `hyperlight serve`".to_owned(),
        (None, _) => "yes".to_owned(),
        (Some(refusal), Some(_)) => format!("no: {refusal}"),
        (Some(refusal), None) => format!("with --invoke only: {refusal}"),
    }
}

fn memory(needs: &MemoryNeeds) -> String {
    let at_start = needs.memories.iter().fold(0, |sum: u64, it| sum.saturating_add(it.min));
    let max = needs.memories.iter().try_fold(0, |sum: u64, it| Some(sum.saturating_add(it.max?)));
    let mut text = match needs.memories.len() {
        0 => "no linear memory".to_owned(),
        1 => format!("{} at start", size(at_start)),
        count => format!("{} at start in {count} linear memories", size(at_start)),
    };
    if let Some(max) = max.filter(|_| !needs.memories.is_empty()) {
        text.push_str(&format!(", at most {}", size(max)));
    }
    if at_start >= MEMORY_BYTES_DEFAULT {
        text.push_str(&format!(
            ": more than a micro-VM has by default ({}), give it --memory",
            size(MEMORY_BYTES_DEFAULT)
        ));
    }
    let elements = |tables: &[Limits]| tables.iter().fold(0, |n: u64, it| n.saturating_add(it.min));
    if !needs.tables.is_empty() {
        text.push_str(&format!("; tables of {} elements", elements(&needs.tables)));
    }
    text + &format!("; {} of data", size(needs.data_bytes))
}

fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A line `  name      text`.
fn field(out: &mut String, name: &str, text: &str) -> std::fmt::Result {
    writeln!(out, "  {name:<11}{text}")
}

fn items(out: &mut String, items: &[Item], with_types: bool) -> std::fmt::Result {
    if items.is_empty() {
        return writeln!(out, "  none");
    }
    for item in items {
        let name = one_line(&item.name);
        match item.kind {
            ItemKind::Interface if with_types => {
                writeln!(out, "  {name}")?;
                for function in &item.functions {
                    writeln!(out, "    {}: {}", one_line(&function.name), one_line(&function.ty))?;
                }
            }
            ItemKind::Interface if is_module(&item.name) => {
                writeln!(out, "  {name}")?;
                wrapped(out, item)?;
            }
            ItemKind::Interface | ItemKind::Other => writeln!(out, "  {name}")?,
            ItemKind::Function => {
                let ty = item.functions.first().map(|function| one_line(&function.ty));
                writeln!(out, "  {name}: {}", ty.unwrap_or_default())?;
            }
            ItemKind::Memory => writeln!(out, "  {name}: memory")?,
            ItemKind::Table => writeln!(out, "  {name}: table")?,
            ItemKind::Global => writeln!(out, "  {name}: global")?,
            ItemKind::Tag => writeln!(out, "  {name}: tag")?,
        }
    }
    Ok(())
}

/// Whether it is a module that a core module imports from, and no interface of a component.
fn is_module(name: &str) -> bool {
    !name.contains('/')
}

/// The names of an item's functions, indented, in lines of [`COLUMNS`].
fn wrapped(out: &mut String, item: &Item) -> std::fmt::Result {
    let mut line = String::new();
    for function in &item.functions {
        let name = one_line(&function.name);
        if !line.is_empty() && 4 + line.len() + 2 + name.len() > COLUMNS {
            writeln!(out, "    {line},")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(&name);
    }
    writeln!(out, "    {line}")
}
