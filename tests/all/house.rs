//! The house's arrows: upper floors import lower ones, never the reverse, and no files import each other in a circle.
//! Held by reading every path in `src`, in `use` lines, in expressions and types, and in the tokens given to macros.

mod circles;
mod reader;
mod walks;

use reader::{Found, Reader, is_test_only};
use std::path::{Path, PathBuf};
use syn::visit::Visit as _;

/// The modules of the crate's root and what each may enter of the others.
const MAY_ENTER: &[(&str, &[&str])] = &[
    (
        "main",
        &["cli", "web", "api", "engine", "fleet", "github", "logs", "revision", "store", "rollout", "config"],
    ),
    ("lib", &[]),
    (
        "cli",
        &[
            "web", "api", "engine", "artifact", "fleet", "github", "logs", "revision", "store", "rollout",
            "config",
        ],
    ),
    ("web", &["api", "engine", "fleet", "github", "logs", "revision", "store", "rollout", "config"]),
    ("engine", &["api", "artifact", "fleet", "github", "logs", "revision", "store", "rollout", "config"]),
    ("artifact", &["download", "config"]),
    ("fleet", &["store", "rollout", "config"]),
    ("github", &["download", "store", "rollout", "config"]),
    ("logs", &["api", "store", "rollout", "config"]),
    ("revision", &["store", "rollout", "config"]),
    ("api", &["rollout"]),
    ("download", &[]),
    ("store", &[]),
    ("config", &["rollout"]),
    ("rollout", &[]),
    ("sim", &[]),
];

/// The subcommands that run the simulated cloud; nothing else enters `sim`.
const SIMS_GUESTS: &[&str] = &["cli::sim", "cli::demo", "cli::rehearse"];

/// The subcommands that run the daemon or a part of it here; the rest of the command line speaks to a daemon in the shapes
/// of `api`, and enters neither `web` nor `engine`.
const DAEMONS_GUESTS: &[&str] = &["cli::serve", "cli::check", "cli::backup", "cli::demo"];
/// What `sim` may enter, and from where: paper instances read the scripts that they are sent.
const SIMS_WINDOW: (&str, &str) = ("sim::paper", "revision");

/// What `rollout`, being pure, may not name: crates, and anything that asks a clock, chance or the machine.
const IMPURE: &[&str] = &[
    "tokio",
    "sqlx",
    "warp",
    "octocrab",
    "rand",
    "reqwest",
    "hyper",
    "nix",
    "fs4",
    "tempfile",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::io",
    "SystemTime",
    "Instant",
    "UNIX_EPOCH",
    "Timestamp::now",
    "Zoned::now",
];

/// Crates that belong to one house each.
const KEPT_BY: &[(&str, &[&str])] = &[
    ("sqlx", &["store"]),
    ("octocrab", &["github"]),
    ("aws_sdk_autoscaling", &["fleet"]),
    ("aws_sdk_elasticloadbalancingv2", &["fleet"]),
    ("aws_sdk_ssm", &["fleet"]),
    ("aws_sdk_cloudwatchlogs", &["fleet"]),
];

#[test]
fn upper_floors_import_lower_ones() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    assert!(!files.is_empty(), "no Rust file found under {}", src.display());
    let mut offences = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(&src).unwrap();
        offences
            .extend(check(&module_of(name), &text).into_iter().map(|o| format!("{}:{o}", name.display())));
    }
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The module a file holds, as segments from the crate's root: `cli/follow/stream.rs` is `cli::follow::stream`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.len() > 1 && module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// The offences of a module's source, each with its line.
fn check(module: &[String], source: &str) -> Vec<String> {
    let file = match syn::parse_file(source) {
        Ok(file) => file,
        Err(e) => return vec![format!("{}: can't be parsed: {e}", e.span().start().line)],
    };
    let mut reader = Reader::of(module);
    if is_test_only(&file.attrs) || module.last().is_some_and(|last| last == "tests") {
        return Vec::new();
    }
    reader.visit_file(&file);
    let aliases = std::mem::take(&mut reader.aliases);
    let mut offences: Vec<String> = Vec::new();
    for Found { line, path, .. } in &reader.found {
        let mut path = path.clone();
        if let Some(real) = aliases.get(&path[0]) {
            path.splice(..1, real.iter().cloned());
        }
        let offence = offence(module, &path).map(|why| format!("{line}: `{}`: {why}", path.join("::")));
        offences.extend(offence.filter(|o| !offences.contains(o)));
    }
    offences
}

/// Why `module` may not name `path`; `crate` stands first in paths within the crate.
fn offence(module: &[String], path: &[String]) -> Option<String> {
    let house = module[0].as_str();
    let Some((_, may_enter)) = MAY_ENTER.iter().find(|(name, _)| *name == house) else {
        return Some(format!("`{house}` has no place in the house: add it to this test's table"));
    };
    if house == "rollout"
        && let Some(what) = IMPURE.iter().find(|what| names(path, what))
    {
        return Some(format!("rollout is pure: no {what}"));
    }
    if house == "rollout" && path[0].starts_with("aws_") {
        return Some("rollout is pure: no AWS".to_owned());
    }
    if let Some((_, keepers)) = KEPT_BY.iter().find(|(name, _)| *name == path[0])
        && !keepers.contains(&house)
    {
        return Some(format!("only {} uses {}", keepers.join(", "), path[0]));
    }
    let within = path[0] == "crate" || (path[0] == "drover" && house == "main");
    let target = path.get(1).filter(|_| within)?;
    if target == house || !MAY_ENTER.iter().any(|(name, _)| name == target) {
        return None;
    }
    if target == "sim" {
        return (!is_guest(module, SIMS_GUESTS))
            .then(|| format!("only {} and tests enter sim", SIMS_GUESTS.join(", ")));
    }
    if house == "cli" && (target == "web" || target == "engine") && !is_guest(module, DAEMONS_GUESTS) {
        return Some(format!(
            "only {} enter {target}: a client's shapes are in api",
            DAEMONS_GUESTS.join(", ")
        ));
    }
    let (window, seen) = SIMS_WINDOW;
    if module.iter().take(2).cloned().collect::<Vec<_>>().join("::") == window && target == seen {
        return None;
    }
    (!may_enter.contains(&target.as_str())).then(|| format!("{house} may not import {target}"))
}

/// Whether a module is one of these, or within one.
fn is_guest(module: &[String], guests: &[&str]) -> bool {
    let name = module.iter().take(2).cloned().collect::<Vec<_>>().join("::");
    guests.contains(&name.as_str())
}

/// Whether `what`, one name or several, stands in `path`: crates and `std` modules at its head, the rest anywhere.
fn names(path: &[String], what: &str) -> bool {
    let what: Vec<&str> = what.split("::").collect();
    if what[0].starts_with(char::is_lowercase) {
        path.len() >= what.len() && path.iter().zip(&what).all(|(a, b)| a == b)
    } else {
        path.windows(what.len()).any(|window| window.iter().zip(&what).all(|(a, b)| a == b))
    }
}

fn offences(module: &str, source: &str) -> Vec<String> {
    let module: Vec<String> = module.split("::").map(str::to_owned).collect();
    check(&module, source)
}

#[test]
fn the_check_finds_what_offends() {
    let offending = [
        ("store", "use crate::engine::Engine;"),
        ("store::rows", "use super::super::rollout;"),
        ("store", "fn f() { crate::logs::follow(); }"),
        ("store", "use crate::{config, store};"),
        ("logs", "type T = Vec<Option<crate::web::Page>>;"),
        ("engine", "use crate as all; fn f() { all::cli::run() }"),
        ("engine", "fn f() { println!(\"{}\", crate::web::name()); }"),
        ("engine::act", "use crate::sim::Cloud;"),
        ("cli::serve", "use crate::sim::Cloud;"),
        ("main", "fn main() { drover::sim::run() }"),
        ("cli::status", "use crate::engine::Engine;"),
        ("cli::client", "fn f() { crate::web::bind() }"),
        ("api", "use crate::engine::Engine;"),
        ("sim", "use crate::config::Config;"),
        ("sim::ssm", "use crate::revision::script;"),
        ("sim::paper", "use crate::store::Store;"),
        ("sim", "mod inner { use super::super::store::Store; }"),
        ("web", "use sqlx::Row;"),
        ("engine", "async fn f(c: aws_sdk_ssm::Client) {}"),
        ("rollout", "use tokio::time::sleep;"),
        ("rollout", "use std::time::{Duration, Instant};"),
        ("rollout", "fn f() -> jiff::Timestamp { jiff::Timestamp::now() }"),
        ("rollout", "use jiff::Timestamp as T; fn f() { T::now(); }"),
        ("rollout", "use rand as dice; fn f() { dice::random() }"),
        ("rollout", "#[tokio::main] async fn f() {}"),
        ("rollout", "fn f() { assert!(std::env::args().len() > 1); }"),
        ("rollout::plan", "use crate::config::Policy;"),
        ("attic", "use std::fmt;"),
    ];
    for (module, source) in offending {
        assert!(!offences(module, source).is_empty(), "{module}: {source}");
    }
}

#[test]
fn the_check_lets_pass_what_is_right() {
    let right = [
        ("engine", "use crate::{rollout::plan, store}; use crate::fleet as f; fn f() { f::x() }"),
        ("cli::demo", "use crate::sim::Cloud;"),
        ("cli::sim::flags", "use crate::sim::Cloud;"),
        ("sim::paper::decide", "use crate::revision::script::Rendered;"),
        ("cli::follow::stream", "use super::super::client::Client; use super::tail;"),
        ("store", "use sqlx::Row; use self::rows::X; struct engine; fn f(engine: engine) {}"),
        ("rollout", "use jiff::Timestamp; fn f(now: Timestamp) -> std::time::Duration { todo(now) }"),
        ("rollout", "#[cfg(test)] mod tests { use std::time::Instant; use crate::store; }"),
        ("logs", "#[cfg(test)] mod tests { use crate::sim::Cloud; }"),
        ("main", "fn main() { drover::cli::run() }"),
        ("lib", "pub mod cli; pub mod store;"),
    ];
    for (module, source) in right {
        assert!(offences(module, source).is_empty(), "{module}: {source}: {:?}", offences(module, source));
    }
}
