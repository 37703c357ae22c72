//! The Dockerfile, built by buildah. No registry of images is asked: the builder is made here, a busybox whose `make` hands
//! out the programs that the real one has linked.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use integration::process;
use integration::scratch::Scratch;
use integration::{host, tools, workspace};
use serde_json::Value;

/// What the image may have, packed: it is pulled by each node.
const BYTES_MAX: u64 = 30_000_000;

const MAKE: &str = "#!/bin/busybox sh\n\
    [ \"$*\" = static ] || exit 1\n\
    /bin/busybox mkdir -p target\n\
    /bin/busybox cp -r /programs target/static\n";

/// buildah with what it keeps in `scratch`.
fn buildah(scratch: &Path) -> Result<Command> {
    let policy = scratch.join("policy.json");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).context("policy")?;
    let mut command = tools::tree("buildah")?.script("buildah")?;
    command.args(["--storage-driver", "vfs", "--root"]).arg(scratch.join("store"));
    command.arg("--runroot").arg(scratch.join("run")).env("BUILDAH_ISOLATION", "chroot");
    // Of the user who runs the test there may be none.
    command.env("HOME", scratch).env("TMPDIR", scratch);
    Ok(command)
}

fn run(scratch: &Path, arguments: &[&str]) -> Result<String> {
    let (verb, rest) = arguments.split_first().context("no verb")?;
    let mut command = buildah(scratch)?;
    command.arg(verb);
    if ["from", "bud", "commit", "push"].contains(verb) {
        command.arg("--signature-policy").arg(scratch.join("policy.json"));
    }
    process::run(command.args(rest))?.success()
}

/// Makes the builder.
fn make_builder(scratch: &Path) -> Result<()> {
    let root = scratch.join("builder");
    for directory in ["bin", "programs"] {
        fs::create_dir_all(root.join(directory)).context("make the builder")?;
    }
    let busybox = tools::tree("qemu")?.file(&["bin/busybox", "usr/bin/busybox"])?;
    fs::copy(busybox, root.join("bin/busybox")).context("copy busybox")?;
    for (name, path) in host::programs()? {
        fs::copy(&path, root.join("programs").join(name)).context("copy a program")?;
    }
    fs::write(root.join("bin/make"), MAKE).context("write make")?;
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).context("link sh")?;
    process::run(Command::new("chmod").arg("+x").arg(root.join("bin/make")))?.success()?;
    let container = run(scratch, &["from", "scratch"])?;
    run(scratch, &["add", container.trim(), &root.to_string_lossy(), "/"])?;
    run(scratch, &["commit", "--rm", container.trim(), "localhost/builder"]).map(drop)
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

#[test]
fn the_image_has_two_static_programs_and_nothing_else() -> Result<()> {
    let scratch = Scratch::new()?;
    make_builder(&scratch)?;
    let context = workspace().canonicalize()?;
    let arguments =
        ["--build-arg", "BUILDER=localhost/builder", "--pull-never", "--tag", "localhost/node"];
    run(&scratch, &[&["bud"], &arguments[..], &[&context.to_string_lossy()]].concat())?;
    let layout = scratch.join("oci");
    run(&scratch, &["push", "localhost/node", &format!("oci:{}", layout.display())])?;

    let blob = |digest: &Value| {
        let digest = digest.as_str().unwrap_or_default();
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let index = json(&layout.join("index.json"))?;
    let manifest = json(&blob(&index["manifests"][0]["digest"]))?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    let bytes: u64 = layers.iter().filter_map(|layer| layer["size"].as_u64()).sum();
    assert!(bytes < BYTES_MAX, "{bytes} bytes packed");
    let config = json(&blob(&manifest["config"]["digest"]))?;
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/hyperlight"]));
    assert_eq!(config["config"]["User"], "65534:65534");
    let title = &config["config"]["Labels"]["org.opencontainers.image.title"];
    assert_eq!(title, "containerd-shim-hyperlight");

    let root = scratch.join("root");
    fs::create_dir(&root)?;
    for layer in layers {
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(blob(&layer["digest"])).arg("-C").arg(&root);
        process::run(&mut tar)?.success()?;
    }
    let mut names: Vec<_> =
        fs::read_dir(&root)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    assert_eq!(names, ["containerd-shim-hyperlight-v1", "hyperlight"]);
    // There is no C library in the image, so that it runs says that it needs none.
    for (program, argument) in [("hyperlight", "version"), ("containerd-shim-hyperlight-v1", "-v")]
    {
        let mut chroot = Command::new("chroot");
        let said = process::run(chroot.arg(&root).arg(format!("/{program}")).arg(argument))?;
        let said = said.success()?;
        assert!(said.contains(env!("CARGO_PKG_VERSION")), "{program}: {said}");
    }
    println!("{bytes} bytes packed");
    Ok(())
}
