//! What containerd tells of tasks while a test runs: `ctr events`, line by line.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::Node;
use crate::process::wait_until;

/// How long an event may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(60);

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub content: Value,
}

/// A listener; dropping it ends it.
#[derive(Debug)]
pub struct Events {
    ctr: Child,
    heard: Arc<Mutex<Vec<Event>>>,
}

impl Events {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// `ctr` cannot be started, or hears nothing.
    pub fn listen(node: &Node) -> Result<Self> {
        let mut ctr = node
            .ctr_command(["events"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Where containerd is killed on purpose it says that it was.
            .stderr(Stdio::null())
            .spawn()
            .context("start ctr events")?;
        let output = BufReader::new(ctr.stdout.take().context("no standard output")?);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend(parse(&line));
            }
        });
        let events = Self { ctr, heard };
        // It listens once it hears something: a namespace label changes without anybody's harm.
        let mut number = 0;
        wait_until("ctr events to listen", ARRIVAL, || {
            number += 1;
            let label = format!("listening={number}");
            drop(node.ctr(["namespaces", "label", node.namespace(), &label]));
            !events.all().is_empty()
        })?;
        Ok(events)
    }

    /// What was heard so far.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The events of the tasks of container `id`, in their order.
    #[must_use]
    pub fn of_task(&self, id: &str) -> Vec<Event> {
        let is_of = |event: &Event| {
            event.topic.starts_with("/tasks/") && event.content["container_id"] == id
        };
        self.all().into_iter().filter(is_of).collect()
    }

    /// Waits until the events of the tasks of container `id` have these topics, without the `/tasks/` before
    /// them, and returns them.
    ///
    /// # Errors
    ///
    /// They do not come; the error tells which have.
    pub fn expect(&self, id: &str, topics: &[&str]) -> Result<Vec<Event>> {
        let told = || -> Vec<String> {
            let of_task = self.of_task(id).into_iter();
            of_task.map(|event| event.topic.trim_start_matches("/tasks/").to_owned()).collect()
        };
        wait_until("the events", ARRIVAL, || told().len() >= topics.len())
            .with_context(|| format!("{topics:?} is not {:?}", told()))?;
        anyhow::ensure!(told() == topics, "{topics:?} is not {:?}", told());
        Ok(self.of_task(id))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        drop(self.ctr.kill());
        drop(self.ctr.wait());
    }
}

/// A line `DATE TIME ZONE ZONE NAMESPACE TOPIC JSON`; none if it is another.
fn parse(line: &str) -> Option<Event> {
    let start = line.find(" /")? + 1;
    let (topic, content) = line.get(start..)?.split_once(' ')?;
    Some(Event { topic: topic.to_owned(), content: serde_json::from_str(content).ok()? })
}
