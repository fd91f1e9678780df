//! `appspec.yml` as CodeDeploy has it for Linux: files, permissions, hooks. A mistake is an error before a host is
//! touched; what CodeDeploy passes over in silence is a warning.

mod read;
mod tree;

pub use read::parse;

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

/// A parsed file, with warnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The parsed file.
    pub spec: AppSpec,
    /// The warnings, each with file, line and key.
    pub warnings: Vec<String>,
}

/// A parsed `appspec.yml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// The hooks of each event, in order.
    pub hooks: BTreeMap<LifecycleEvent, Vec<Hook>>,
    /// The files, and where on the host they are copied.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// What is done where a file exists already.
    #[serde(default)]
    pub file_exists: FileExists,
    /// The permissions of the copied files.
    #[serde(default)]
    pub permissions: Vec<Permission>,
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

/// A file or folder of the revision, and the folder on the host that it, or what is in it, is copied into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path in the revision; empty: all of it.
    pub source: String,
    /// Absolute path of a folder.
    pub destination: String,
}

/// What is done where a file exists that no earlier deployment brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileExists {
    /// The deployment fails.
    #[default]
    Disallow,
    /// The file is replaced.
    Overwrite,
    /// The file stays as it is.
    Retain,
}

/// The permissions of some of the copied files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Permission {
    /// A copied file, or a folder.
    pub object: String,
    /// The names directly in that folder to which it applies; none for everything below the folder.
    pub pattern: Option<String>,
    /// The names to which it doesn't apply.
    pub except: Vec<String>,
    pub owner: Option<String>,
    pub group: Option<String>,
    /// One to four octal digits.
    pub mode: Option<String>,
    /// As `setfacl` takes them.
    pub acls: Vec<String>,
    /// For SELinux.
    pub context: Option<Context>,
    /// Files, folders, or both.
    pub types: Vec<Kind>,
}

/// A label of SELinux.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Context {
    pub user: Option<String>,
    pub kind: String,
    pub range: Option<String>,
}

/// What a permission is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Kind {
    File,
    Directory,
}

impl AppSpec {
    /// Returns the longest time that the hooks of these events may take together, seconds.
    pub fn seconds(&self, events: &[LifecycleEvent]) -> i64 {
        let of = |event: &LifecycleEvent| -> i64 {
            let hooks = self.hooks.get(event).into_iter().flatten();
            let once: i64 = hooks.map(|hook| i64::from(hook.timeout)).sum();
            // Where they are those of the release that runs, they may be tried twice, and fall back to the new one's.
            if event.is_of_the_former() { 3 * once } else { once }
        };
        events.iter().map(of).sum()
    }

    /// Returns the longest time that one dispatch of these events may take where `former` runs before it, seconds:
    /// until that has stopped its own hooks run.
    pub fn seconds_after(&self, former: Option<&AppSpec>, events: &[LifecycleEvent]) -> i64 {
        let Some(former) = former else { return self.seconds(events) };
        let of = |spec: &AppSpec, event: &LifecycleEvent| -> i64 {
            spec.hooks.get(event).into_iter().flatten().map(|hook| i64::from(hook.timeout)).sum()
        };
        let time = |event: &LifecycleEvent| {
            if event.is_of_the_former() {
                // Tried twice, then the new one's; and another may have been made current since, by an attempt before.
                2 * of(former, event).max(of(self, event)) + of(self, event)
            } else {
                of(self, event)
            }
        };
        events.iter().map(time).sum()
    }

    /// Returns what planning needs to know of it.
    pub fn for_planning(&self) -> snapshot::Revision {
        let has = |event| self.hooks.get(&event).is_some_and(|hooks: &Vec<Hook>| !hooks.is_empty());
        snapshot::Revision {
            pre_block: has(LifecycleEvent::BeforeBlockTraffic),
            former: BTreeMap::new(),
            post_allow: has(LifecycleEvent::AfterAllowTraffic),
            run_seconds: self.seconds(&RUN),
        }
    }

    /// Returns it with the policy's time-outs for hooks that state none.
    pub fn timed(mut self, time_outs: &BTreeMap<LifecycleEvent, SignedDuration>) -> AppSpec {
        for (event, hooks) in &mut self.hooks {
            let seconds = time_outs.get(event).and_then(|time| u32::try_from(time.as_secs()).ok());
            let Some(seconds) = seconds else { continue };
            hooks.iter_mut().filter(|hook| !hook.stated).for_each(|hook| hook.timeout = seconds);
        }
        self
    }

    /// Returns the files as the host's runner reads them: `source TAB folder`, a line each.
    pub fn files_table(&self) -> String {
        self.files.iter().map(|file| format!("{}\t{}\n", file.source, file.destination)).collect()
    }

    /// Returns the permissions as the host's runner reads them: a key and its value a line, each begun by its object.
    pub fn permissions_table(&self) -> String {
        let mut table = String::new();
        for permission in &self.permissions {
            let mut line = |key: &str, value: &str| table.push_str(&format!("{key} {value}\n"));
            line("object", &permission.object);
            for kind in &permission.types {
                line("type", if *kind == Kind::File { "file" } else { "directory" });
            }
            let optional =
                [("owner", &permission.owner), ("group", &permission.group), ("mode", &permission.mode)];
            for (key, value) in optional {
                value.iter().for_each(|value| line(key, value));
            }
            permission.pattern.iter().for_each(|pattern| line("pattern", &shell_pattern(pattern)));
            permission.except.iter().for_each(|pattern| line("except", &shell_pattern(pattern)));
            permission.acls.iter().for_each(|acl| line("acl", acl));
            if let Some(Context { user, kind, range }) = &permission.context {
                let user = user.as_ref().map(|user| format!("-u {user} ")).unwrap_or_default();
                let range = range.as_ref().map(|range| format!(" -l {range}")).unwrap_or_default();
                line("context", &format!("{user}-t {kind}{range}"));
            }
        }
        table
    }

    /// Returns the hooks as the host's runner reads them: `event|timeout|runas|location`, a line each.
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

impl FileExists {
    /// Returns its name in `appspec.yml`.
    pub fn name(self) -> &'static str {
        match self {
            FileExists::Disallow => "DISALLOW",
            FileExists::Overwrite => "OVERWRITE",
            FileExists::Retain => "RETAIN",
        }
    }
}

/// CodeDeploy's pattern, in which `*` alone means something, as a shell's.
fn shell_pattern(pattern: &str) -> String {
    pattern.chars().fold(String::new(), |mut out, c| {
        if !c.is_ascii_alphanumeric() && !"*-_./".contains(c) && c.is_ascii() {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

#[cfg(test)]
mod tests;
