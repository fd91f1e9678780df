//! The script of a dispatch: the runner, packed, and the spec that tells it what to do on which instance.

use super::{
    appspec::AppSpec,
    bundle::{Form, Packed},
};
use crate::rollout::{
    event::LifecycleEvent,
    policy::{StopFailure, StopFrom},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{fmt::Write as _, io::Write as _, sync::LazyLock};

#[cfg(feature = "sim")]
mod read;

#[cfg(feature = "sim")]
pub use read::{Rendered, read};

/// What runs on the host: its parts, put together.
pub const RUNNER: &str = concat!(
    include_str!("../../hooks/runner/1-basics.sh"),
    include_str!("../../hooks/runner/2-attempt.sh"),
    include_str!("../../hooks/runner/3-decide.sh"),
    include_str!("../../hooks/runner/4-secrets.sh"),
    include_str!("../../hooks/runner/5-hooks.sh"),
    include_str!("../../hooks/runner/6-release.sh"),
    include_str!("../../hooks/runner/7-files.sh"),
    include_str!("../../hooks/runner/8-permissions.sh"),
    include_str!("../../hooks/runner/9-upload.sh"),
    include_str!("../../hooks/runner/main.sh"),
);

/// The script around it: puts the runner and its spec on the host, and runs it.
const COMMAND: &str = include_str!("../../hooks/command.sh");

/// The whole script must stay below this: Systems Manager documents take 64 KB, half of it is a safe place.
pub const LARGEST_SCRIPT: usize = 32 * 1024;

/// Packed once: base64 of gzip, and the name under which hosts keep it. Its comments stay here: a script's room is small.
static PACKED: LazyLock<(String, String)> = LazyLock::new(|| {
    let is_code = |line: &&str| !line.starts_with("# ") && *line != "#";
    let text: String = RUNNER.lines().filter(is_code).flat_map(|line| [line, "\n"]).collect();
    let name = hex::encode(Sha256::digest(text.as_bytes()))[..16].to_owned();
    (packed(&text), name)
});

/// Base64 of gzip.
fn packed(text: &str) -> String {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory can't fail.
    STANDARD.encode(gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish()).unwrap_or_default())
}

/// What the runner is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Download and unpack.
    Stage,
    /// Run events.
    Run,
    /// Stop a running attempt after the event in work.
    StopAfter,
    /// Stop it now.
    StopNow,
}

/// Everything the runner needs to know.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    /// What to do.
    pub kind: Kind,
    /// Application.
    pub application: &'a str,
    /// Deployment group, `app/env`.
    pub group: &'a str,
    /// Deployment's number.
    pub deployment: i64,
    /// Dispatch id.
    pub dispatch: &'a str,
    /// Full SHA of the release to run.
    pub sha: &'a str,
    /// The URL from which the host fetches the bundle.
    pub bundle_url: &'a str,
    /// SHA-256 of it; empty where it isn't known beforehand.
    pub bundle_sha256: &'a str,
    /// Authorization header for it; empty if none is needed.
    pub bundle_auth: &'a str,
    /// The URL to which the host pushes its log; empty if it prints it.
    pub log_url: &'a str,
    /// Whether the log is printed in frames that say where each piece belongs; otherwise as it is.
    pub frames: bool,
    /// Releases kept on the host.
    pub keep: u32,
    /// Bytes of log that it keeps of the attempt.
    pub log_max: u64,
    /// Unix time after which it is not begun any more.
    pub not_after: i64,
    /// Events to run, in order.
    pub events: &'a [LifecycleEvent],
    /// The revision's hooks, files and permissions.
    pub appspec: &'a AppSpec,
    /// What the instances run, where something else than drover has put it there.
    pub former: Option<Former<'a>>,
    /// Tells builds of one commit apart; empty for GitHub's archive of the whole repository.
    pub build: &'a str,
    /// What kind of archive the bundle is.
    pub form: Form,
    /// How the release lies in it.
    pub packed: &'a Packed,
    /// The release whose hooks stop what runs, and what their failure means.
    pub stop: (StopFrom, StopFailure),
    /// Extra environment of the hooks.
    pub environment: &'a [(String, String)],
    /// Secrets, whose values the host fetches itself: names in the environment, and in Parameter Store.
    pub secrets: &'a [(String, String)],
    /// Per instance.
    pub rows: Vec<Row>,
}

/// A revision that a person says is on the instances.
#[derive(Clone, Copy, Debug)]
pub struct Former<'a> {
    /// Its full SHA.
    pub sha: &'a str,
    /// Its hooks.
    pub appspec: &'a AppSpec,
    /// SHA-256 of its appspec file: by it the host knows it again.
    pub digest: &'a str,
}

/// One instance's row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Instance id, or `*` for any.
    pub instance: String,
    /// Attempt number.
    pub attempt: i64,
    /// Event to start at.
    pub first: LifecycleEvent,
    /// Marks the control lines in its log.
    pub nonce: String,
    /// For pushing its log.
    pub token: String,
    /// The last good revision of that instance.
    pub good: Option<String>,
    /// Its availability zone; empty where it isn't known.
    pub zone: String,
}

/// Returns the script for SendCommand.
pub fn render(spec: &Spec) -> String {
    let (runner, name) = &*PACKED;
    let spec = packed(&spec_text(spec));
    COMMAND.replace("@NAME@", name).replace("@RUNNER@", runner).replace("@SPEC@", &spec)
}

/// Returns the name and the text (packed) of the runner in the scripts of this version.
pub fn runner() -> (&'static str, &'static str) {
    let (packed, name) = &*PACKED;
    (name, packed)
}

/// Returns a script without its runner, which is the same in thousands of scripts.
pub fn without_runner(script: &str) -> String {
    let (name, packed) = runner();
    script.replacen(packed, &mark(name), 1)
}

/// Returns the name of the runner that such a script lacks.
pub fn missing_runner(script: &str) -> Option<&str> {
    script.split_once(MARK)?.1.split_once('@').map(|(name, _)| name)
}

/// Returns the script with its runner put back.
pub fn with_runner(script: &str, name: &str, packed: &str) -> String {
    script.replacen(&mark(name), packed, 1)
}

/// In base64 there is no `@`.
const MARK: &str = "@RUNNER:";

fn mark(name: &str) -> String {
    format!("{MARK}{name}@")
}

fn spec_text(spec: &Spec) -> String {
    let (kind, mode) = match spec.kind {
        Kind::Stage => ("stage", ""),
        Kind::Run => ("run", ""),
        Kind::StopAfter => ("stop", "after"),
        Kind::StopNow => ("stop", "now"),
    };
    let events: Vec<_> = spec.events.iter().map(|event| event.name()).collect();
    let lines = |pairs: &[(String, String)]| -> String {
        pairs.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    };
    let mut rows = String::new();
    for row in &spec.rows {
        let good = row.good.as_deref().unwrap_or("-");
        let _ = writeln!(
            rows,
            "{} {} {} {} {} {good} {}",
            row.instance, row.attempt, row.first, row.nonce, row.token, row.zone
        );
    }
    let mut text = String::from("D_SPEC=1\n");
    for (name, value) in [
        ("KIND", kind),
        ("STOP_MODE", mode),
        ("APP", spec.application),
        ("GROUP", spec.group),
        ("DEPLOYMENT", &spec.deployment.to_string()),
        ("DISPATCH", spec.dispatch),
        ("SHA", spec.sha),
        ("BUNDLE_URL", spec.bundle_url),
        ("BUNDLE_SHA256", spec.bundle_sha256),
        ("BUNDLE_AUTH", spec.bundle_auth),
        ("LOG_URL", spec.log_url),
        ("LOG_FORM", if spec.frames { "frames" } else { "" }),
        ("KEEP", &spec.keep.to_string()),
        ("LOG_MAX", &spec.log_max.to_string()),
        ("NOT_AFTER", &spec.not_after.to_string()),
        ("EVENTS", &events.join(" ")),
        ("HOOKS", &spec.appspec.table()),
        ("FILES", &spec.appspec.files_table()),
        ("EXISTS", spec.appspec.file_exists.name()),
        ("PERMISSIONS", &spec.appspec.permissions_table()),
        ("BUNDLE_FORM", spec.form.name()),
        ("BUNDLE_WRAPPED", if spec.packed.wrapped { "1" } else { "" }),
        ("PATH", &spec.packed.path),
        ("FORMER_SHA", spec.former.map_or("", |former| former.sha)),
        ("FORMER_HOOKS", &spec.former.map(|former| former.appspec.table()).unwrap_or_default()),
        ("FORMER_APPSPEC", spec.former.map_or("", |former| former.digest)),
        ("BUILD", spec.build),
        ("STOP_FROM", spec.stop.0.name()),
        ("STOP_FAILURE", spec.stop.1.name()),
        ("ENV", &lines(spec.environment)),
        ("SECRETS", &lines(spec.secrets)),
        ("INSTANCES", &rows),
    ] {
        let _ = writeln!(text, "D_{name}='{}'", value.replace('\'', r"'\''"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_runner_is_in_it() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks/runner");
        let mut parts: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        parts.sort();
        let whole: String = parts.iter().map(|part| std::fs::read_to_string(part).unwrap()).collect();
        assert_eq!(whole, RUNNER);
    }

    /// Makes the spec of a run on this many instances.
    pub(super) fn spec(sha: &str, rows: i64) -> Spec<'_> {
        static APPSPEC: LazyLock<AppSpec> = LazyLock::new(AppSpec::default);
        static PACKED: LazyLock<Packed> = LazyLock::new(Packed::by_github);
        let row = |n: i64| Row {
            instance: format!("i-{n:017x}"),
            attempt: 1_800_000_000_000 + n,
            first: LifecycleEvent::AfterBlockTraffic,
            nonce: hex::encode(Sha256::digest([n as u8]))[..16].to_owned(),
            token: hex::encode(Sha256::digest(n.to_le_bytes())),
            good: Some("a".repeat(40)),
            zone: "eu-central-1a".into(),
        };
        Spec {
            kind: Kind::Run,
            application: "sample",
            group: "sample/demo",
            deployment: 7,
            dispatch: "d-1",
            sha,
            bundle_url: "http://127.0.0.1:1/bundles/x",
            bundle_sha256: "",
            bundle_auth: "",
            log_url: "",
            frames: false,
            keep: 5,
            log_max: 1 << 28,
            not_after: 1_800_000_000,
            events: &crate::rollout::event::RUN,
            appspec: &APPSPEC,
            former: None,
            build: "",
            form: Form::TarGz,
            packed: &PACKED,
            stop: Default::default(),
            secrets: &[],
            environment: &[],
            rows: (0..rows).map(row).collect(),
        }
    }

    #[test]
    fn fifty_instances_fit_and_quotes_survive() {
        let environment = [("NOTE".into(), "it's".into())];
        let sha = "b".repeat(40);
        let spec = Spec { environment: &environment, ..spec(&sha, 50) };
        assert!(spec_text(&spec).contains(r"D_ENV='NOTE=it'\''s"));
        assert!(render(&spec).len() < LARGEST_SCRIPT, "{}", render(&spec).len());
        // Kept without the runner, and whole again.
        let (script, (name, packed)) = (render(&spec), runner());
        let kept = without_runner(&script);
        assert!(kept.len() < script.len() - packed.len() + 100 && missing_runner(&kept) == Some(name));
        assert_eq!(with_runner(&kept, name, packed), script);
        assert_eq!(missing_runner(&script), None);
    }
}
