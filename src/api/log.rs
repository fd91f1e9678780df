//! A deployment's log and its stream.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::ops::Not;

/// One line of a deployment's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number within the deployment: from 1, without holes.
    pub seq: i64,
    /// When the daemon got it.
    pub at: Timestamp,
    /// The instance it comes from or speaks of; null for the deployment's own lines.
    #[serde(default)]
    pub instance: Option<String>,
    /// The lifecycle event.
    #[serde(default)]
    pub event: Option<String>,
    /// The attempt on that instance.
    #[serde(default)]
    pub attempt: Option<i64>,
    /// `hook`, or `drover` for its own remarks; of a hook's annotation `error`, `warning` or `notice`.
    pub source: String,
    /// The line itself, without its line feed; what isn't UTF-8 is replaced.
    pub text: String,
}

impl LogLine {
    /// Whether the line is a hook's annotation.
    pub fn is_annotation(&self) -> bool {
        ["error", "warning", "notice"].contains(&self.source.as_str())
    }

    /// Whether drover itself wrote the line, rather than a hook.
    pub fn is_drovers(&self) -> bool {
        self.source == "drover" || self.instance.is_none()
    }
}

/// How a deployment stood when its stream closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// The deployment's state.
    pub state: String,
    /// Its exit code for a command line.
    #[serde(default)]
    pub exit_code: Option<i32>,
}

/// A row of the stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LogRow {
    /// A line of the log.
    Line(LogLine),
    /// The end: the deployment has ended or halted, or what is stored has been read. A stream that closes without it goes
    /// on, and is to be asked for again after the last line seen.
    End {
        /// How the deployment stands.
        end: LogEnd,
    },
    /// A sign that the stream is alive, every 15 s in which nothing else comes.
    Ping {
        /// True.
        ping: bool,
    },
    /// A row of a later version's; to be passed over.
    #[serde(skip_serializing)]
    Unknown(IgnoredAny),
}

/// Which lines of a deployment's log are asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogQuery {
    /// Only lines after this number.
    #[serde(default)]
    pub after: i64,
    /// Whether the answer goes on until the deployment has ended or halted; true if absent.
    #[serde(default = "yes")]
    pub follow: bool,
    /// Only this instance's lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Only this lifecycle event's lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Only lines that this regular expression matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// Only lines that came at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only lines of instances that have failed in the deployment.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub failed: bool,
    /// Whether plain text comes as hooks wrote it, with what a terminal would obey.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub raw: bool,
}

fn yes() -> bool {
    true
}

impl LogQuery {
    /// Whether it asks for every line, from the first one on.
    pub fn is_whole(&self) -> bool {
        let LogQuery { after, follow: _, instance, event, grep, since, failed, raw: _ } = self;
        *after == 0 && instance.is_none() && event.is_none() && grep.is_none() && since.is_none() && !failed
    }

    /// The whole log until the deployment has ended or halted.
    pub fn following() -> LogQuery {
        LogQuery { follow: true, ..LogQuery::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_apart() {
        let read = |text: &str| serde_json::from_str::<LogRow>(text).unwrap();
        assert!(matches!(read(r#"{"ping":true}"#), LogRow::Ping { ping: true }));
        assert!(matches!(read(r#"{"end":{"state":"Halted","exit_code":3}}"#), LogRow::End { .. }));
        assert!(matches!(read(r#"{"later":1}"#), LogRow::Unknown(_)));
        let line = r#"{"seq":1,"at":"2026-01-01T00:00:00Z","instance":null,"event":null,"attempt":null,"source":"drover","text":"a"}"#;
        assert!(matches!(read(line), LogRow::Line(line) if line.is_drovers()));
        assert_eq!(serde_json::to_string(&read(line)).unwrap(), line);
    }
}
