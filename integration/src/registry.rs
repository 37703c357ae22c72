//! A registry on 127.0.0.1: Debian's docker-registry on a free port, empty at its start.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::oci::{self, Image};
use crate::process::wait_until;
use crate::tools;

/// A running registry; dropping it ends it.
#[derive(Debug)]
pub struct Registry {
    address: String,
    // Of one that was started here.
    process: Option<Child>,
}

impl Registry {
    /// Starts a registry that keeps its blobs below `directory`.
    ///
    /// # Errors
    ///
    /// It cannot be started or does not listen; its log is `registry.log` in `directory`.
    pub fn start(directory: &Path) -> Result<Self> {
        // Free at this moment; the registry takes no port 0 and tells it.
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let address = format!("127.0.0.1:{}", port.context("find a free port")?.port());
        let config = directory.join("registry.yml");
        let blobs = directory.join("registry");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\n\
                 log: {{level: warn, accesslog: {{disabled: true}}}}\n\
                 storage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: \"{address}\"}}\n",
                blobs.display()
            ),
        )
        .context("write the registry's configuration")?;
        let log =
            std::fs::File::create(directory.join("registry.log")).context("create registry.log")?;
        let process = tools::tree("registry")?
            .command("docker-registry")?
            .env("OTEL_TRACES_EXPORTER", "none")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share registry.log")?)
            .stderr(log)
            .spawn()
            .context("start docker-registry")?;
        let registry = Self { address, process: Some(process) };
        wait_until("the registry to listen", Duration::from_secs(60), || {
            TcpStream::connect(&registry.address).is_ok()
        })?;
        Ok(registry)
    }

    /// A registry that runs.
    pub(crate) fn at(address: String) -> Self {
        Self { address, process: None }
    }

    /// Its `host:port`, the beginning of every reference.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Pushes `image` as `name:latest` and returns its full reference.
    ///
    /// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>, "Pushing manifests".
    ///
    /// # Errors
    ///
    /// The registry refuses a blob or the manifest.
    pub fn push(&self, name: &str, image: &Image) -> Result<String> {
        let agent = ureq::agent();
        let base = format!("http://{}/v2/{name}", self.address);
        for blob in &image.blobs {
            let answer = agent
                .post(format!("{base}/blobs/uploads/"))
                .send_empty()
                .context("begin an upload")?;
            let location =
                answer.headers().get("location").context("an upload without a location")?;
            let location = location.to_str().context("the location is no text")?;
            let joint = if location.contains('?') { '&' } else { '?' };
            let target = format!("{location}{joint}digest={}", oci::digest(blob));
            agent
                .put(target)
                .header("content-type", "application/octet-stream")
                .send(blob.as_slice())
                .context("upload a blob")?;
        }
        let manifest = serde_json::to_vec(&image.manifest).context("write the manifest")?;
        let answer = agent
            .put(format!("{base}/manifests/latest"))
            .header("content-type", oci::MANIFEST)
            .send(manifest.as_slice())
            .context("upload the manifest")?;
        ensure!(
            answer.status() == 201,
            "the registry answered {} to the manifest",
            answer.status()
        );
        Ok(format!("{}/{name}:latest", self.address))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself; whoever used it has noticed.
            drop(process.kill());
            drop(process.wait());
        }
    }
}
