//! The sample: a small web service and a repository that deploys it, for the demo and the tests.
//! Must not import anything of the daemon.

pub mod service;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// The two commits of a sample repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRepo {
    /// The SHA of version 1, 40 hexadecimal digits.
    pub v1: String,
    /// The SHA of version 2, the head of branch `main`.
    pub v2: String,
}

/// The files of both versions: path, text, whether executable.
const FILES: [(&str, &str, bool); 11] = [
    ("README.md", include_str!("repo/README.md"), false),
    ("appspec.yml", include_str!("repo/appspec.yml"), false),
    ("hooks/common.sh", include_str!("repo/hooks/common.sh"), false),
    ("hooks/after-block-traffic", include_str!("repo/hooks/after-block-traffic"), true),
    ("hooks/application-stop", include_str!("repo/hooks/application-stop"), true),
    ("hooks/before-install", include_str!("repo/hooks/before-install"), true),
    ("hooks/after-install", include_str!("repo/hooks/after-install"), true),
    ("hooks/application-start", include_str!("repo/hooks/application-start"), true),
    ("hooks/validate-service", include_str!("repo/hooks/validate-service"), true),
    ("hooks/before-allow-traffic", include_str!("repo/hooks/before-allow-traffic"), true),
    ("GREETING", "Hello from the first version.\n", false),
];

/// Subject of the second commit; by it a sample made earlier is known again.
const SECOND: &str = "Greet with better manners";

/// Makes a git repository with two commits on branch `main`, the same SHAs every time. One that was made there earlier
/// is taken as it is.
///
/// # Errors
/// Where the directory can't be written or holds another repository, or the git command is missing.
pub fn create_repository(dir: &Path) -> anyhow::Result<SampleRepo> {
    fs::create_dir_all(dir.join("hooks")).with_context(|| format!("make {}", dir.display()))?;
    if dir.join(".git").exists() {
        let subject = git(dir, &["log", "-1", "--format=%s", "main"], "").ok();
        ensure!(
            subject.as_deref() == Some(SECOND),
            "{} already holds another git repository: choose another place",
            dir.display()
        );
        let commit = |name| git(dir, &["rev-parse", "--verify", name], "");
        return Ok(SampleRepo { v1: commit("main~1")?, v2: commit("main")? });
    }
    let init = ["init", "--quiet", "--initial-branch=main", "--object-format=sha1", "--template="];
    git(dir, &init, "")?;
    for (path, text, executable) in FILES {
        let path = dir.join(path);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let mode = if executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    fs::write(dir.join("VERSION"), "1\n")?;
    let v1 = commit(dir, "Serve the first version", "2026-01-05T09:00:00Z")?;
    fs::write(dir.join("VERSION"), "2\n")?;
    fs::write(dir.join("GREETING"), "Hello from version two: faster, and with better manners.\n")?;
    let v2 = commit(dir, SECOND, "2026-01-06T09:00:00Z")?;
    Ok(SampleRepo { v1, v2 })
}

/// Commits all that is in a repository's directory, with the fixed author, and gives the new SHA.
///
/// # Errors
/// Where git refuses: nothing changed, say.
pub fn commit(dir: &Path, message: &str, date: &str) -> anyhow::Result<String> {
    git(dir, &["add", "--all"], date)?;
    git(dir, &["commit", "--quiet", "--no-verify", "--message", message], date)?;
    git(dir, &["rev-parse", "HEAD"], date)
}

fn git(dir: &Path, args: &[&str], date: &str) -> anyhow::Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(["-c", "core.fileMode=true", "-c", "commit.gpgSign=false"]).args(args);
    // Nobody's own settings: the SHAs must be the same everywhere.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Sam Ple").env(format!("GIT_{who}_EMAIL"), "sam@example.com");
        if !date.is_empty() {
            command.env(format!("GIT_{who}_DATE"), date);
        }
    }
    let output = command.output().context("run git (is it installed?)")?;
    ensure!(
        output.status.success(),
        "git {} in {}: {}",
        args.join(" "),
        dir.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
