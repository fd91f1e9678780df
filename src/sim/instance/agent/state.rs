//! What the agent keeps on the instance's disk, a directory a command, so that a restart takes up where it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How far a command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Waits for a worker.
    Queued,
    /// A worker has been started.
    Running,
    /// Its script asked for a reboot and runs again after it.
    Rebooting,
    /// The service has the reply.
    Replied,
}

/// A command as the agent knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Document {
    pub command_id: String,
    pub commands: Vec<String>,
    /// Seconds.
    pub execution_timeout: u64,
    pub region: String,
    /// Output is uploaded while it runs.
    #[serde(default)]
    pub uploads: bool,
    pub phase: Phase,
    /// The boot that the phase was entered in.
    pub boot: String,
    /// Unix milliseconds.
    pub started_at: i64,
}

/// A worker process, told from another with its number by the boot and its start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worker {
    pub pid: u32,
    pub start: u64,
    pub boot: String,
}

/// What a worker found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// In the service's words.
    pub status: String,
    pub exit_code: i32,
    /// Unix milliseconds.
    pub ended_at: i64,
}

/// The directory of one command.
#[derive(Debug, Clone)]
pub(super) struct Folder(pub PathBuf);

impl Folder {
    pub(super) fn of(state: &Path, command_id: &str) -> Folder {
        // An id is the service's: it must not lead elsewhere.
        let name: String = command_id.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        Folder(state.join("orchestration").join(name))
    }

    /// All commands ever taken.
    pub(super) fn all(state: &Path) -> Vec<Folder> {
        let Ok(entries) = fs::read_dir(state.join("orchestration")) else { return Vec::new() };
        entries.flatten().map(|entry| Folder(entry.path())).collect()
    }

    pub(super) fn document(&self) -> Option<Document> {
        self.read("document.json")
    }

    pub(super) fn worker(&self) -> Option<Worker> {
        self.read("worker.json")
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.read("outcome.json")
    }

    /// Whether the service has asked to cancel it.
    pub(super) fn cancelled(&self) -> bool {
        self.0.join("cancel").exists()
    }

    pub(super) fn cancel(&self) -> io::Result<()> {
        fs::write(self.0.join("cancel"), "")
    }

    /// The first characters of what the script wrote.
    pub(super) fn output(&self, name: &str, characters: usize) -> String {
        let bytes = fs::read(self.0.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).chars().take(characters).collect()
    }

    /// Makes it so that a reader sees all of it or nothing.
    pub(super) fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let fresh = self.0.join(format!(".{name}"));
        fs::write(&fresh, serde_json::to_vec(value)?)?;
        fs::rename(fresh, self.0.join(name))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.0.join(name)).ok()?).ok()
    }
}

impl Worker {
    /// The process with this number, as of now.
    pub(super) fn of(pid: u32) -> Option<Worker> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        // A zombie has ended; field 22 of the file is the start time.
        if fields.next()? == "Z" {
            return None;
        }
        let start = fields.nth(18)?.parse().ok()?;
        Some(Worker { pid, start, boot: boot_id() })
    }

    pub(super) fn alive(&self) -> bool {
        Worker::of(self.pid).as_ref() == Some(self)
    }
}

/// The id of this boot of the instance, as pid 1 gave it.
pub(super) fn boot_id() -> String {
    std::env::var("SIM_AGENT_BOOT").unwrap_or_default()
}

/// Unix milliseconds.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
