//! `appspec.yml`, as far as drover takes it: hooks with time-outs and `runas`. What it doesn't take is refused by
//! name, before a host is touched.

use crate::rollout::{
    event::{LifecycleEvent, RUN},
    snapshot,
};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// CodeDeploy's default time-out of a script is 3,600 s; drover's design says 15 minutes.
pub const DEFAULT_TIMEOUT_SECONDS: u32 = 900;
/// CodeDeploy's cap on an event, and ours on a hook.
pub const LONGEST_TIMEOUT_SECONDS: u32 = 3600;

/// A parsed `appspec.yml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// The hooks of each event, in order.
    pub hooks: BTreeMap<LifecycleEvent, Vec<Hook>>,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Path in the revision.
    pub location: String,
    /// Seconds after which it is stopped …
    pub timeout: u32,
    /// … as the file says; else as the group's policy has it for the event, or by default.
    #[serde(default)]
    pub stated: bool,
    /// The user it runs as; root if absent.
    pub runas: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: WrittenVersion,
    os: String,
    #[serde(default)]
    files: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    permissions: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    file_exists_behavior: Option<String>,
    #[serde(default)]
    hooks: Option<BTreeMap<String, Option<Vec<WrittenHook>>>>,
}

/// `0.0`, with or without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenVersion {
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHook {
    location: String,
    #[serde(default)]
    timeout: Option<u32>,
    #[serde(default)]
    runas: Option<String>,
}

/// Parses the file's text. The error says what is wrong, where, and what would be right.
pub fn parse(text: &str) -> Result<AppSpec, String> {
    let written: Written = serde_saphyr::from_str(text).map_err(|e| format!("appspec.yml: {e}"))?;
    let version = match &written.version {
        WrittenVersion::Number(number) => *number == 0.0,
        WrittenVersion::Text(text) => text == "0.0",
    };
    if !version {
        return Err("appspec.yml: version must be 0.0, the only one there is".into());
    }
    if written.os != "linux" {
        return Err(format!("appspec.yml: os is '{}'; drover deploys to linux only", written.os));
    }
    let unsupported = [
        ("files", written.files.is_some_and(|list| !list.is_empty())),
        ("permissions", written.permissions.is_some_and(|list| !list.is_empty())),
    ];
    if let Some((key, _)) = unsupported.iter().find(|(_, used)| *used) {
        return Err(format!(
            "appspec.yml: '{key}' is not supported: the revision is unpacked whole and 'current' points to it; \
             copy or set permissions in an AfterInstall hook"
        ));
    }
    // Releases are immutable directories, so the question of existing files doesn't arise; accepted and without effect.
    let _ = written.file_exists_behavior;
    let mut spec = AppSpec::default();
    for (name, hooks) in written.hooks.unwrap_or_default() {
        let event: LifecycleEvent = name.parse().map_err(|e| format!("appspec.yml: hooks: {e}"))?;
        if !event.takes_hooks() {
            return Err(format!("appspec.yml: hooks: {event} is the system's own event and takes no hooks"));
        }
        let hooks = hooks
            .unwrap_or_default()
            .into_iter()
            .map(|hook| check_hook(event, hook))
            .collect::<Result<_, _>>()?;
        spec.hooks.insert(event, hooks);
    }
    Ok(spec)
}

fn check_hook(event: LifecycleEvent, hook: WrittenHook) -> Result<Hook, String> {
    let at = format!("appspec.yml: hooks: {event}: {}", hook.location);
    let location = hook.location.trim_start_matches("./").to_owned();
    let odd = |c: char| c.is_control() || c == '|';
    if location.is_empty()
        || location.starts_with('/')
        || location.split('/').any(|part| part == "..")
        || location.contains(odd)
    {
        return Err(format!("{at}: the location must be a plain path inside the revision"));
    }
    let stated = hook.timeout.is_some();
    let timeout = hook.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    if !(1..=LONGEST_TIMEOUT_SECONDS).contains(&timeout) {
        return Err(format!(
            "{at}: timeout {timeout} is not between 1 and {LONGEST_TIMEOUT_SECONDS} seconds"
        ));
    }
    let runas = hook.runas.filter(|user| !user.is_empty());
    if let Some(user) = &runas
        && !user.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        return Err(format!("{at}: runas '{user}' is no user name"));
    }
    Ok(Hook { location, timeout, stated, runas })
}

impl AppSpec {
    /// The longest that the hooks of these events may take together, seconds.
    pub fn seconds(&self, events: &[LifecycleEvent]) -> i64 {
        let of = |event: &LifecycleEvent| -> i64 {
            let hooks = self.hooks.get(event).into_iter().flatten();
            let once: i64 = hooks.map(|hook| i64::from(hook.timeout)).sum();
            // ApplicationStop of the old release may fall back to the new one's: both count.
            if *event == LifecycleEvent::ApplicationStop { 2 * once } else { once }
        };
        events.iter().map(of).sum()
    }

    /// The longest that one dispatch of these events may take where `former` runs before it, seconds: until that has stopped
    /// its own hooks run.
    pub fn seconds_after(&self, former: Option<&AppSpec>, events: &[LifecycleEvent]) -> i64 {
        let Some(former) = former else { return self.seconds(events) };
        let of = |spec: &AppSpec, event: &LifecycleEvent| -> i64 {
            spec.hooks.get(event).into_iter().flatten().map(|hook| i64::from(hook.timeout)).sum()
        };
        let time = |event: &LifecycleEvent| match event {
            LifecycleEvent::BeforeBlockTraffic | LifecycleEvent::AfterBlockTraffic => {
                // Another may have been made current since, by an attempt before.
                of(former, event).max(of(self, event))
            }
            // May fall back to the new one's.
            LifecycleEvent::ApplicationStop => of(former, event) + 2 * of(self, event),
            _ => of(self, event),
        };
        events.iter().map(time).sum()
    }

    /// What planning needs to know of it.
    pub fn for_planning(&self) -> snapshot::Revision {
        let has = |event| self.hooks.get(&event).is_some_and(|hooks: &Vec<Hook>| !hooks.is_empty());
        snapshot::Revision {
            pre_block: has(LifecycleEvent::BeforeBlockTraffic),
            former: BTreeMap::new(),
            post_allow: has(LifecycleEvent::AfterAllowTraffic),
            run_seconds: self.seconds(&RUN),
        }
    }

    /// With the policy's time-outs for hooks that state none.
    pub fn timed(mut self, time_outs: &BTreeMap<LifecycleEvent, SignedDuration>) -> AppSpec {
        for (event, hooks) in &mut self.hooks {
            let seconds = time_outs.get(event).and_then(|time| u32::try_from(time.as_secs()).ok());
            let Some(seconds) = seconds else { continue };
            hooks.iter_mut().filter(|hook| !hook.stated).for_each(|hook| hook.timeout = seconds);
        }
        self
    }

    /// The hooks as the host's runner reads them: `event|timeout|runas|location`, a line each.
    pub fn table(&self) -> String {
        let mut table = String::new();
        for (event, hooks) in &self.hooks {
            for hook in hooks {
                let runas = hook.runas.as_deref().unwrap_or_default();
                table.push_str(&format!("{event}|{}|{runas}|{}\n", hook.timeout, hook.location));
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_file() {
        let spec = parse(
            "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: hooks/start\n      timeout: 30\n      runas: app\n  ValidateService:\n    - location: ./hooks/validate\n",
        )
        .unwrap();
        assert_eq!(
            spec.table(),
            "ApplicationStart|30|app|hooks/start\nValidateService|900||hooks/validate\n"
        );
        assert_eq!(spec.for_planning().run_seconds, 930);
        let minute = SignedDuration::from_mins(1);
        let of = [(LifecycleEvent::ApplicationStart, minute), (LifecycleEvent::ValidateService, minute)];
        assert_eq!(
            spec.timed(&of.into()).table(),
            "ApplicationStart|30|app|hooks/start\nValidateService|60||hooks/validate\n"
        );
    }

    #[test]
    fn the_hooks_of_the_release_that_runs_have_their_own_time() {
        let hooks = |seconds: u32| {
            let text = format!(
                "version: 0.0\nos: linux\nhooks:\n  AfterBlockTraffic:\n    - location: a\n      timeout: {seconds}\n  \
                 ApplicationStop:\n    - location: b\n      timeout: {seconds}\n  ApplicationStart:\n    - location: c\n      \
                 timeout: 5\n"
            );
            parse(&text).unwrap()
        };
        let (old, new) = (hooks(3000), hooks(10));
        assert_eq!(new.seconds_after(None, &RUN), 10 + 20 + 5);
        assert_eq!(new.seconds_after(Some(&old), &RUN), 3000 + 3000 + 20 + 5);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("version: 1.0\nos: linux\n", "version must be 0.0"),
            ("version: 0.0\nos: windows\n", "linux only"),
            (
                "version: 0.0\nos: linux\nhooks:\n  ApplicationBegin: []\n",
                "unknown lifecycle event 'ApplicationBegin'",
            ),
            ("version: 0.0\nos: linux\nhooks:\n  Install: []\n", "takes no hooks"),
            ("version: 0.0\nos: linux\nfiles:\n  - source: /\n", "'files' is not supported"),
            ("version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: ../x\n", "plain path"),
            (
                "version: 0.0\nos: linux\nhooks:\n  ApplicationStart:\n    - location: x\n      timeout: 0\n",
                "timeout 0",
            ),
            ("version: 0.0\nos: linux\nhook:\n", "hook"),
            ("a: [", "appspec.yml"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
