//! Reads a rendered script back, for a simulated instance that carries out what it says without a shell.

use super::{Kind, Row};
use crate::rollout::event::LifecycleEvent;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::GzDecoder;
use std::{collections::HashMap, io::Read as _};

/// What a rendered script tells the runner, as far as it shows outside of the host.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// What to do.
    pub kind: Kind,
    /// Full SHA of the release to run.
    pub sha: String,
    /// Tells builds of one commit apart.
    pub build: String,
    /// The URL to which the host pushes its log; empty if it prints it.
    pub log_url: String,
    /// Whether it prints it in frames.
    pub frames: bool,
    /// Releases kept on the host.
    pub keep: usize,
    /// Bytes of log that it keeps of the attempt.
    pub log_max: usize,
    /// Unix time after which it is not begun any more.
    pub not_after: i64,
    /// Events to run, in order.
    pub events: Vec<LifecycleEvent>,
    /// The revision's hooks in their order: event and location.
    pub hooks: Vec<(LifecycleEvent, String)>,
    /// `current` or `new`: whose hooks stop what runs.
    pub stop_from: String,
    /// What their failure means, as in the policy.
    pub stop_failure: String,
    /// Per instance.
    pub rows: Vec<Row>,
}

impl Rendered {
    /// The row of this instance, or else the one for any.
    pub fn row(&self, instance: &str) -> Option<&Row> {
        let of = |name: &str| self.rows.iter().find(|row| row.instance == name);
        of(instance).or_else(|| of("*"))
    }
}

/// Reads a script that [`super::render`] made; none where it is another one.
pub fn read(script: &str) -> Option<Rendered> {
    let packed = script.lines().find_map(|line| {
        line.strip_prefix("printf %s '")?.strip_suffix("' | base64 -d | gzip -dc >\"$spec\"")
    })?;
    let mut text = String::new();
    GzDecoder::new(STANDARD.decode(packed).ok()?.as_slice()).read_to_string(&mut text).ok()?;
    let values = assignments(&text)?;
    let value = |name: &str| values.get(name).map(String::as_str).unwrap_or_default();
    let kind = match (value("KIND"), value("STOP_MODE")) {
        ("stage", _) => Kind::Stage,
        ("run", _) => Kind::Run,
        ("stop", "after") => Kind::StopAfter,
        ("stop", "now") => Kind::StopNow,
        _ => return None,
    };
    let events: Result<_, _> = value("EVENTS").split_whitespace().map(str::parse).collect();
    let hooks: Option<_> = value("HOOKS").lines().map(hook).collect();
    let rows: Option<_> = value("INSTANCES").lines().map(row).collect();
    Some(Rendered {
        kind,
        sha: value("SHA").into(),
        build: value("BUILD").into(),
        log_url: value("LOG_URL").into(),
        frames: value("LOG_FORM") == "frames",
        keep: value("KEEP").parse().ok()?,
        log_max: value("LOG_MAX").parse().ok()?,
        not_after: value("NOT_AFTER").parse().ok()?,
        events: events.ok()?,
        hooks: hooks?,
        stop_from: value("STOP_FROM").into(),
        stop_failure: value("STOP_FAILURE").into(),
        rows: rows?,
    })
}

/// `D_NAME='value'` as a shell reads it, the names without their `D_`.
fn assignments(text: &str) -> Option<HashMap<String, String>> {
    let mut values = HashMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.strip_prefix("D_")?.split_once('=')?;
        let mut value = String::new();
        let (mut quoted, mut escaped) = (false, false);
        let end = after.find(|c| {
            match c {
                '\\' if !quoted && !escaped => {
                    escaped = true;
                    return false;
                }
                '\'' if !escaped => quoted = !quoted,
                '\n' if !quoted => return true,
                c => value.push(c),
            }
            escaped = false;
            false
        })?;
        values.insert(name.to_owned(), value);
        rest = &after[end + 1..];
    }
    Some(values)
}

/// `EVENT|SECONDS|USER|LOCATION`.
fn hook(line: &str) -> Option<(LifecycleEvent, String)> {
    let mut parts = line.splitn(4, '|');
    Some((parts.next()?.parse().ok()?, parts.nth(2)?.to_owned()))
}

/// `INSTANCE ATTEMPT FIRST NONCE TOKEN GOOD ZONE`.
fn row(line: &str) -> Option<Row> {
    let mut words = line.split(' ');
    Some(Row {
        instance: words.next()?.to_owned(),
        attempt: words.next()?.parse().ok()?,
        first: words.next()?.parse().ok()?,
        nonce: words.next()?.to_owned(),
        token: words.next()?.to_owned(),
        good: words.next().filter(|good| *good != "-").map(str::to_owned),
        zone: words.next().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::spec;
    use super::*;

    #[test]
    fn what_was_rendered_is_read_back() {
        let parsed = crate::revision::appspec::parse(
            "appspec.yml",
            "version: 0.0\nos: linux\nhooks:\n  AfterInstall:\n    - location: it's/here\n      timeout: 9\n",
        );
        let appspec = parsed.unwrap().spec;
        let (sha, rows) = ("b".repeat(40), 3);
        let spec = super::super::Spec {
            appspec: &appspec,
            log_url: "http://127.0.0.1:1/ingest",
            ..spec(&sha, rows)
        };
        let read = read(&super::super::render(&spec)).unwrap();
        assert_eq!((read.kind, read.sha.as_str(), read.keep), (Kind::Run, sha.as_str(), 5));
        assert_eq!(read.log_url, "http://127.0.0.1:1/ingest");
        assert_eq!(read.events, spec.events);
        assert_eq!(read.hooks, [(LifecycleEvent::AfterInstall, "it's/here".to_owned())]);
        let (ours, theirs) = (&spec.rows[1], read.row(&spec.rows[1].instance).unwrap());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        assert!(read.row("i-other").is_none());
        assert!(super::read("#!/bin/sh\nuptime\n").is_none());
    }
}
