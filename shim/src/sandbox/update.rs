//! Other limits for a task that exists.
//!
//! Rule: what an update does not name stays as it is. An update that the kernel refuses changes nothing.
//!
//! The limits are the control group's. The micro-VM has the memory that it was made with: a higher memory
//! limit leaves more to the files that it writes, not to the program; a lower one lets the kernel end the
//! task when the program uses what its micro-VM has.

use oci_spec::runtime::LinuxResources;
use serde::de::Error as _;
use serde_json::Value;

use super::Sandbox;
use crate::bundle;
use crate::error::Error;

impl Sandbox {
    /// Limits task `id` as `resources` say, which is `linux.resources` of the OCI specification.
    ///
    /// # Errors
    ///
    /// There is no task of that name or it has ended, `resources` are none, or the kernel refuses one; then
    /// all are as before.
    pub async fn update(&self, id: &str, resources: Value) -> Result<(), Error> {
        let container = self.task(id)?;
        self.apart(id, move || {
            let of_bundle = || Ok::<_, Error>(bundle::resources(container.bundle())?);
            // An error of its own, before anything is merged into it.
            parse(resources.clone())?;
            container.limit(of_bundle, |present| merged(present, resources))
        })
        .await
    }
}

/// What `present` becomes with `changes`.
fn merged(present: &LinuxResources, changes: Value) -> Result<LinuxResources, Error> {
    let mut all = serde_json::to_value(present).map_err(Error::Encode)?;
    merge(&mut all, changes);
    parse(all)
}

fn parse(resources: Value) -> Result<LinuxResources, Error> {
    // Of a list, serde would take the elements for the fields.
    let parsed = match resources.is_object() {
        true => serde_json::from_value(resources),
        false => Err(serde_json::Error::custom("they are no object")),
    };
    parsed.map_err(|source| Error::Request { part: "resources", source })
}

/// Puts every value of `changes` in its place; null and what is not mentioned change nothing.
fn merge(all: &mut Value, changes: Value) {
    match (all, changes) {
        (_, Value::Null) => {}
        (Value::Object(all), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(all.entry(key).or_insert(Value::Null), change);
            }
        }
        (all, change) => *all = change,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_mentioned_stays() {
        let present = json!({"memory": {"limit": 1000, "swap": 2000}, "pids": {"limit": 5}});
        let present = parse(present).unwrap();

        let merged = merged(&present, json!({"memory": {"limit": 1500}, "cpu": null})).unwrap();

        let expected = json!({"memory": {"limit": 1500, "swap": 2000}, "pids": {"limit": 5}});
        assert_eq!(serde_json::to_value(merged).unwrap(), expected);
    }

    #[test]
    fn what_is_none_is_refused() {
        for resources in [json!([]), json!({"memory": {"limit": "much"}}), json!({"pids": 3})] {
            let error = parse(resources).unwrap_err();
            assert!(matches!(error, Error::Request { part: "resources", .. }), "{error}");
        }
    }
}
