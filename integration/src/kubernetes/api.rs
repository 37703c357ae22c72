//! The API of a cluster as plain HTTP, through `kubectl proxy`: for what a test asks over and over, which a
//! process for each question would be too slow for.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Longest that one request may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A way to the API; it ends with this.
#[derive(Debug)]
pub struct Api {
    base: String,
    agent: ureq::Agent,
    proxy: Child,
}

impl Api {
    /// Starts `kubectl proxy` by the command `kubectl`.
    ///
    /// # Errors
    ///
    /// It cannot be started, or says no address.
    pub(super) fn start(mut kubectl: Command) -> Result<Self> {
        kubectl.args(["proxy", "--port=0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut proxy = kubectl.spawn().context("start kubectl proxy")?;
        let output = proxy.stdout.take().context("no standard output")?;
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(TIMEOUT)).build().new_agent();
        let mut api = Self { base: String::new(), agent, proxy };
        // "Starting to serve on 127.0.0.1:40000"
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("read what kubectl proxy says")?;
        let address = line.trim_end().rsplit(' ').next().unwrap_or_default();
        ensure!(address.contains(':'), "kubectl proxy says {line:?}");
        api.base = format!("http://{address}");
        Ok(api)
    }

    /// What is at `path`, which may be nothing.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or refuses.
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.agent.get(self.url(path)).call();
        let answer = answer.with_context(|| format!("GET {path}"))?;
        if answer.status() == 404 {
            return Ok(None);
        }
        read("GET", path, answer).map(Some)
    }

    /// What is at `path`.
    ///
    /// # Errors
    ///
    /// As [`Api::find`], or nothing is there.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.find(path)?.with_context(|| format!("nothing is at {path}"))
    }

    /// The text at `path`, as of `/readyz`.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or does not answer 200.
    pub fn text(&self, path: &str) -> Result<String> {
        let answer = self.agent.get(self.url(path)).call();
        let mut answer = answer.with_context(|| format!("GET {path}"))?;
        let status = answer.status();
        let text = answer.body_mut().read_to_string().context("read an answer")?;
        ensure!(status == 200, "GET {path}: {status}: {text}");
        Ok(text)
    }

    /// Creates `object` in the collection at `path`.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or refuses.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        let request = self.agent.post(self.url(path)).header("content-type", "application/json");
        let answer = request.send(object.to_string()).with_context(|| format!("POST {path}"))?;
        read("POST", path, answer)
    }

    /// Changes what is at `path` by a merge patch (RFC 7386).
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or refuses.
    pub fn patch(&self, path: &str, change: &Value) -> Result<Value> {
        let request = self.agent.patch(self.url(path));
        let request = request.header("content-type", "application/merge-patch+json");
        let answer = request.send(change.to_string()).with_context(|| format!("PATCH {path}"))?;
        read("PATCH", path, answer)
    }

    /// Deletes what is at `path`, which may have gone.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or refuses.
    pub fn delete(&self, path: &str) -> Result<()> {
        let answer = self.agent.delete(self.url(path)).call();
        let answer = answer.with_context(|| format!("DELETE {path}"))?;
        if answer.status() == 404 {
            return Ok(());
        }
        read("DELETE", path, answer).map(drop)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        // It may have ended by itself; whoever used it has noticed.
        drop(self.proxy.kill());
        drop(self.proxy.wait());
    }
}

fn read(method: &str, path: &str, mut answer: http::Response<ureq::Body>) -> Result<Value> {
    let status = answer.status();
    let text = answer.body_mut().read_to_string().context("read an answer")?;
    ensure!(status.is_success(), "{method} {path}: {status}: {text}");
    serde_json::from_str(&text).with_context(|| format!("{method} {path}: read {text:?}"))
}
