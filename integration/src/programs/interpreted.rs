//! Go, JavaScript and Python: languages whose programs bring a runtime of their own.
//!
//! The world of a JavaScript program is made of what it imports (`from 'wasi:cli/stdin@0.2.10'`) and
//! `wasi:cli/run` of the newest version among that; the texts of the interfaces come with jco, with
//! the version set to the wanted one. One that listens to `fetch` events exports
//! `wasi:http/incoming-handler` instead.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::stem;
use crate::process;
use crate::tools::{self, Tree};

/// Changes with what the functions here do, so that nothing old is used.
pub(super) const RECIPE: &str = "2";

/// Version of the interfaces that jco has the texts of.
const JCO_WIT: &str = "0.2.12";

/// Where they are.
const JCO_TEXTS: &str = "node_modules/@bytecodealliance/jco/lib/wit/builtin";

/// What a handler of requests has in its source.
const LISTENS: &str = "addEventListener('fetch'";

/// The same in Python.
const HANDLES: &str = "exports.IncomingHandler";

/// Version of the interfaces that the engine's HTTP server is made for.
const HANDLER_WIT: &str = "0.2.10";

/// Its fetch and HTTP server are left out of commands, which have no part in `wasi:http`. The compiler is taken by its URL: a script on the command line looks for packages elsewhere.
const COMPONENTIZE_JS: &str = "
import { writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
const [compiler, sourcePath, witPath, output, kind] = process.argv.slice(1);
const { componentize } = await import(pathToFileURL(compiler));
const disableFeatures = kind === 'command' ? ['http', 'fetch-event'] : [];
const { component } = await componentize({ sourcePath, witPath, worldName: 'program', disableFeatures });
await writeFile(output, component);
";

const PYTHON_WIT: &str = "
package test:program;
world program { export wasi:cli/run@0.2.0; }
package wasi:cli@0.2.0 { interface run { run: func() -> result; } }
";

/// Builds a Go source.
pub(super) fn go(tree: &Tree, source: &Path, work: &Path) -> Result<Vec<u8>> {
    let output = work.join("program.wasm");
    let mut go = tree.script("go")?;
    go.env("GOOS", "wasip1").env("GOARCH", "wasm").env("CGO_ENABLED", "0");
    go.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).args([&output, source]);
    process::run(&mut go)?.success()?;
    fs::read(&output).with_context(|| format!("read {}", output.display()))
}

/// Builds a JavaScript source.
pub(super) fn javascript(tree: &Tree, text: &[u8], work: &Path) -> Result<Vec<u8>> {
    let wit = work.join("wit");
    write_world(&String::from_utf8_lossy(text), &wit)?;
    fs::write(work.join("program.js"), text).context("copy the source")?;
    let compiler = "node_modules/@bytecodealliance/componentize-js/src/componentize.js";
    let mut node = tree.script("node")?;
    node.current_dir(work).args(["--input-type=module", "--eval", COMPONENTIZE_JS, "--"]);
    let kind = if String::from_utf8_lossy(text).contains(LISTENS) { "handler" } else { "command" };
    node.arg(tree.file(&[compiler])?).args(["program.js", "wit", "program.wasm", kind]);
    process::run(&mut node)?.success()?;
    fs::read(work.join("program.wasm")).context("read the component")
}

/// Writes the world `program` of a JavaScript source and what it refers to.
fn write_world(source: &str, wit: &Path) -> Result<()> {
    let quoted = source.split(['\'', '"', '`']);
    let interfaces: BTreeSet<_> = quoted.filter(|it| it.starts_with("wasi:")).collect();
    let version = |interface: &str| interface.split_once('@').map(|(_, it)| it.to_owned());
    let versions: BTreeSet<_> = interfaces.iter().filter_map(|it| version(it)).collect();
    let (export, run) = match source.contains(LISTENS) {
        true => ("wasi:http/incoming-handler", HANDLER_WIT),
        false => ("wasi:cli/run", versions.iter().next_back().map_or(JCO_WIT, String::as_str)),
    };
    let imports: String = interfaces.iter().map(|it| format!("  import {it};\n")).collect();
    let world =
        format!("package test:program;\nworld program {{\n{imports}  export {export}@{run};\n}}\n");
    let mut versions = versions.clone();
    versions.insert(run.to_owned());
    for version in versions {
        write_texts(wit, &version)?;
    }
    fs::write(wit.join("world.wit"), world).context("write the world")
}

/// Writes the texts of the interfaces, with a version of theirs, to where `wit` refers to them.
pub(super) fn write_texts(wit: &Path, version: &str) -> Result<()> {
    let texts = tools::tree("wasm-js")?.file(&[JCO_TEXTS])?.join(JCO_WIT);
    for entry in fs::read_dir(&texts).with_context(|| format!("list {}", texts.display()))? {
        let package = entry.context("list the interfaces")?.path();
        let from = package.join("package.wit");
        let text = fs::read_to_string(&from).with_context(|| format!("read {}", from.display()))?;
        let to = wit.join("deps").join(format!("{}-{version}", stem(&package)?));
        fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
        fs::write(to.join("package.wit"), text.replace(JCO_WIT, version))
            .with_context(|| format!("write to {}", to.display()))?;
    }
    Ok(())
}

/// Builds a Python source.
pub(super) fn python(tree: &Tree, source: &Path, text: &[u8], work: &Path) -> Result<Vec<u8>> {
    let name = stem(source)?;
    // Beside its source Python leaves what it has compiled.
    fs::copy(source, work.join(format!("{name}.py"))).context("copy the source")?;
    let wit = work.join("wit");
    fs::create_dir(&wit).with_context(|| format!("create {}", wit.display()))?;
    let world = match String::from_utf8_lossy(text).contains(HANDLES) {
        true => {
            write_texts(&wit, JCO_WIT)?;
            format!(
                "package test:program;\n\
                 world program {{ export wasi:http/incoming-handler@{JCO_WIT}; }}\n"
            )
        }
        false => PYTHON_WIT.to_owned(),
    };
    fs::write(wit.join("world.wit"), world).context("write the world")?;
    let mut componentize = tree.script("componentize-py")?;
    componentize.current_dir(work).args(["-d", "wit", "-w", "program", "componentize"]);
    componentize.args([&name, "-o", "program.wasm"]);
    process::run(&mut componentize)?.success()?;
    fs::read(work.join("program.wasm")).context("read the component")
}
