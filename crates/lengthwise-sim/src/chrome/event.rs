//! An event of a file, its fields read with a rule for each, and what our events say beyond the format.

use lengthwise_core::{Activity, Pass};
use serde_json::{Map, Value};

use super::TraceProblem;

/// An event of a file, and its number there.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    pub event: usize,
    pub fields: &'a Map<String, Value>,
}

impl Event<'_> {
    pub fn key<T>(
        self,
        key: &'static str,
        rule: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, TraceProblem> {
        let event = self.event;
        let value = self.fields.get(key).and_then(read);
        value.ok_or(TraceProblem::Key { event, key, rule })
    }

    pub fn text(self, key: &'static str) -> Result<String, TraceProblem> {
        self.key(key, "text and not empty", |value| {
            value
                .as_str()
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        })
    }

    pub fn number(self, key: &'static str) -> Result<u64, TraceProblem> {
        self.key(key, "a whole number, not negative", Value::as_u64)
    }

    pub fn time(self, key: &'static str) -> Result<f64, TraceProblem> {
        self.key(key, "a time in microseconds, not negative", |value| {
            value
                .as_f64()
                .filter(|time| time.is_finite() && *time >= 0.0)
        })
    }

    /// Checks that a complete event is one of ours: a known activity of its class, with figures as
    /// [`ChromeTraceWriter`](super::ChromeTraceWriter) writes them.
    pub fn activity(self, name: &str, duration_us: f64) -> Result<(), TraceProblem> {
        let broken =
            |key: &str, value: &dyn std::fmt::Display, rule: String| TraceProblem::Schema {
                event: self.event,
                key: key.to_owned(),
                value: value.to_string(),
                rule,
            };
        let Some(activity) = Activity::ALL.into_iter().find(|one| one.name() == name) else {
            let known = Activity::ALL.map(Activity::name).join(", ");
            return Err(broken("name", &name, format!("activities are {known}")));
        };
        let class = self.text("cat")?;
        if class != activity.class().name() {
            let rule = format!("that of {name} is {}", activity.class().name());
            return Err(broken("cat", &class, rule));
        }
        let args = self.fields.get("args").and_then(Value::as_object);
        let args = args.ok_or(TraceProblem::Key {
            event: self.event,
            key: "args",
            rule: "an object",
        })?;
        for (key, value) in args {
            let (is_right, rule) = match key.as_str() {
                "start_s" | "duration_s" => (
                    value.as_f64().is_some_and(|time| time >= 0.0),
                    "it must be seconds, not negative",
                ),
                "step" | "degree" => (
                    value.as_u64().is_some_and(|number| number > 0),
                    "it must be a whole number, at least 1",
                ),
                "micro_batch" | "layer" | "sequences" | "tokens" | "bytes" => {
                    (value.is_u64(), "it must be a whole number, not negative")
                }
                "pass" => (
                    Pass::ALL.iter().any(|pass| *value == pass.name()),
                    "it must be forward, recompute or backward",
                ),
                _ => (false, "there is no such figure"),
            };
            if !is_right {
                return Err(broken(&format!("args.{key}"), value, rule.to_owned()));
            }
        }
        let figure = |key: &'static str, rule| {
            let value = args.get(key).and_then(Value::as_f64);
            let event = self.event;
            value.ok_or(TraceProblem::Key { event, key, rule })
        };
        figure("start_s", "in args")?;
        let exact_s = figure("duration_s", "in args")?;
        // Rounded to nanoseconds at both ends.
        if (exact_s * 1e6 - duration_us).abs() > 2e-3 + 1e-9 * duration_us {
            let rule = format!("dur is {duration_us} us");
            return Err(broken("args.duration_s", &exact_s, rule));
        }
        Ok(())
    }
}
