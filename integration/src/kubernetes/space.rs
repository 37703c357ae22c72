//! A test's part of a cluster: a namespace of its own, and what the test makes there.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Api, Cluster};
use crate::cri::HYPERLIGHT;
use crate::process::{self, HANG_LIMIT, Outcome, wait_until};

/// How often the API is asked for what is awaited.
const INTERVAL: Duration = Duration::from_millis(50);

/// A namespace. Dropping it deletes it and waits for what is in it to be gone.
#[derive(Debug)]
pub struct Space<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Space<'a> {
    pub(super) fn create(cluster: &'a Cluster, name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{count}", std::process::id());
        let namespace = json!({ "metadata": { "name": name } });
        cluster.api().create("/api/v1/namespaces", &namespace)?;
        let space = Self { cluster, name };
        // Pods are refused until their account is there.
        wait_until("the default account", HANG_LIMIT, || {
            space.api().find(&space.path("serviceaccounts/default")).is_ok_and(|it| it.is_some())
        })?;
        Ok(space)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The API.
    #[must_use]
    pub fn api(&self) -> &'a Api {
        self.cluster.api()
    }

    /// Path of what is in this namespace: `pods/NAME`, `deployments/NAME`, `jobs/NAME`, ...
    #[must_use]
    pub fn path(&self, rest: &str) -> String {
        let group = match rest.split('/').next() {
            Some("deployments") => "apis/apps/v1",
            Some("jobs") => "apis/batch/v1",
            _ => "api/v1",
        };
        format!("/{group}/namespaces/{}/{rest}", self.name)
    }

    /// Creates an object, which says its kind.
    ///
    /// # Errors
    ///
    /// The API server refuses.
    pub fn create_object(&self, object: &Value) -> Result<()> {
        let kind = object["kind"].as_str().context("an object without a kind")?;
        let path = self.path(&format!("{}s", kind.to_lowercase()));
        self.api().create(&path, object)?;
        Ok(())
    }

    /// A `kubectl` command line for this namespace.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.cluster.kubectl();
        command.args(["--namespace", &self.name]).args(arguments);
        command
    }

    /// Runs `kubectl` to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started, or hangs.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Outcome> {
        process::run(&mut self.command(arguments))
    }

    /// What `kubectl` prints, which succeeds.
    ///
    /// # Errors
    ///
    /// It does not succeed; the error has what it said.
    pub fn text(&self, arguments: &[&str]) -> Result<String> {
        let outcome = self.kubectl(arguments)?;
        outcome.success().with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// Waits until what is at `path` of this namespace is as `wanted` says, and returns it.
    ///
    /// # Errors
    ///
    /// It is not; the error has its state, its events and the programs' logs.
    pub fn wait(
        &self,
        path: &str,
        what: &str,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Value> {
        let since = Instant::now();
        loop {
            let found = self.api().find(&self.path(path));
            if let Ok(Some(found)) = &found
                && wanted(found)
            {
                return Ok(found.clone());
            }
            if since.elapsed() > HANG_LIMIT {
                let state = found.map(|it| it.map(|it| it["status"].clone()));
                let events = self.events(|_| true).unwrap_or_default();
                bail!(
                    "waited {} s in vain for {path} {what}: {state:#?}\n{}\n{}",
                    HANG_LIMIT.as_secs(),
                    events.join("\n"),
                    self.cluster.log()
                );
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Waits until nothing is at `path` of this namespace.
    ///
    /// # Errors
    ///
    /// Something stays.
    pub fn wait_until_gone(&self, path: &str) -> Result<()> {
        let path = self.path(path);
        wait_until(&format!("{path} to be gone"), HANG_LIMIT, || {
            std::thread::sleep(INTERVAL);
            self.api().find(&path).is_ok_and(|it| it.is_none())
        })
        .with_context(|| self.cluster.log())
    }

    /// Waits until a pod is ready, and returns it.
    ///
    /// # Errors
    ///
    /// As [`Space::wait`].
    pub fn ready(&self, pod: &str) -> Result<Value> {
        self.wait(&format!("pods/{pod}"), "to be ready", |it| {
            condition(it, "Ready") == Some("True")
        })
    }

    /// Waits until a pod has ended, and returns it.
    ///
    /// # Errors
    ///
    /// As [`Space::wait`].
    pub fn ended(&self, pod: &str) -> Result<Value> {
        self.wait(&format!("pods/{pod}"), "to end", |it| {
            matches!(it["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        })
    }

    /// Waits until the log of the one container of a pod has `text`, and returns the log.
    ///
    /// # Errors
    ///
    /// It has not; the error has the log.
    pub fn logged(&self, pod: &str, text: &str) -> Result<String> {
        let path = self.path(&format!("pods/{pod}/log"));
        let mut log = String::new();
        wait_until(&format!("{pod} to log {text:?}"), HANG_LIMIT, || {
            std::thread::sleep(INTERVAL);
            log = self.api().text(&path).unwrap_or_default();
            log.contains(text)
        })
        .with_context(|| format!("{log}\n{}", self.cluster.log()))?;
        Ok(log)
    }

    /// Messages of the events of this namespace that are `wanted`.
    ///
    /// # Errors
    ///
    /// The API server refuses.
    pub fn events(&self, wanted: impl Fn(&Value) -> bool) -> Result<Vec<String>> {
        let events = self.api().get(&self.path("events"))?;
        let events = events["items"].as_array().context("no list")?.iter();
        let events = events.filter(|it| wanted(it)).filter_map(|it| it["message"].as_str());
        Ok(events.map(str::to_owned).collect())
    }

    /// Waits for an event about a pod whose message has `text`, and returns the message.
    ///
    /// # Errors
    ///
    /// There is none; the error has those that there are.
    pub fn event(&self, pod: &str, text: &str) -> Result<String> {
        let mut messages = Vec::new();
        let mut found = None;
        wait_until(&format!("an event of {pod} with {text:?}"), HANG_LIMIT, || {
            std::thread::sleep(INTERVAL);
            let of_pod = |it: &Value| it["involvedObject"]["name"] == pod;
            messages = self.events(of_pod).unwrap_or_default();
            found = messages.iter().find(|it| it.contains(text)).cloned();
            found.is_some()
        })
        .with_context(|| messages.join("\n"))?;
        found.context("no event")
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        let path = format!("/api/v1/namespaces/{}", self.name);
        if let Err(failure) = self.api().delete(&path) {
            eprintln!("{failure:#}");
        }
        let gone = wait_until(&format!("{path} to be gone"), HANG_LIMIT, || {
            std::thread::sleep(INTERVAL);
            self.api().find(&path).is_ok_and(|it| it.is_none())
        });
        match gone {
            Err(left) if std::thread::panicking() => eprintln!("{left:#}"),
            Err(left) => panic!("{left:#}\n{}", self.cluster.log()),
            Ok(()) => {}
        }
    }
}

/// The status of a condition of an object: `True`, `False` or `Unknown`.
pub(super) fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|it| it["type"] == name)?["status"].as_str()
}

/// A pod of this runtime that is not restarted, with `containers`.
#[must_use]
pub fn pod(name: &str, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "runtimeClassName": HYPERLIGHT,
            "restartPolicy": "Never",
            "containers": containers,
        },
    })
}

/// A container of a wasm image with arguments after the image's command.
#[must_use]
pub fn wasm(name: &str, image: &str, arguments: &[&str]) -> Value {
    json!({ "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "args": arguments })
}

/// A container that runs a script of busybox's shell.
#[must_use]
pub fn linux(name: &str, busybox: &str, script: &str) -> Value {
    json!({
        "name": name,
        "image": busybox,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/busybox", "sh", "-c", script],
    })
}
