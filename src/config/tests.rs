//! What a file may say, and how errors in it read.

use super::*;
use std::path::Path;

fn error(text: &str) -> String {
    parse(Path::new("drover.toml"), text).unwrap_err().to_string()
}

const GOOD: &str = "[applications.eval]\nrepository = \"acme/eval\"\n[applications.eval.groups.production]\nauto_scaling_groups = [\"eval\"]\n";

#[test]
fn the_smallest_file() {
    let config = parse(Path::new("drover.toml"), GOOD).unwrap();
    assert_eq!(config.group_names().collect::<Vec<_>>(), ["eval/production"]);
    assert!(config.group("eval/production").is_some() && config.group("eval").is_none());
}

#[test]
fn only_a_locked_door_is_opened_to_the_network() {
    let server = |lines: &str| parse(Path::new("x"), &format!("[server]\n{lines}\n{GOOD}")).unwrap().server;
    assert!(server("listen = \"0.0.0.0:80\"").exposed().is_some_and(|why| why.contains("trusted_proxies")));
    for lines in [
        "listen = \"[::1]:80\"",
        "listen = \"0.0.0.0:80\"\ntrusted_proxies = [\"10.0.0.5\"]",
        "listen = \"0.0.0.0:80\"\ntls = { certificate = \"c\", key = \"k\" }",
    ] {
        assert!(server(lines).exposed().is_none(), "{lines}");
    }
}

#[test]
fn errors_name_file_line_and_key() {
    let policy = |line: &str| format!("{GOOD}[applications.eval.groups.production.policy]\n{line}\n");
    for (text, says) in [
        (policy("bach = \"2\""), "drover.toml:6:1: bach: unknown field `bach`"),
        (policy("batch = \"0\""), "drover.toml:6:9: batch: a batch of '0'"),
        (policy("min_in_service = \"100%\""), "policy: min_in_service = \"100%\" can never be met"),
        (policy("batch = \"120%\""), "batch: '120%' is more than the whole fleet"),
        (GOOD.replace("repository = \"acme/eval\"\n", ""), "missing field `repository`"),
        (
            GOOD.replace("acme/eval", "acme"),
            "drover.toml:2:1: applications.eval.repository: 'acme' is no repository",
        ),
        ("[applications".into(), "drover.toml:1:"),
        (
            format!("[server]\ndatabase = \"mysql://x\"\n{GOOD}"),
            "drover.toml:2:1: server.database: it is no URL of a PostgreSQL database",
        ),
    ] {
        let error = error(&text);
        assert!(error.contains(says), "{says}\n got: {error}");
    }
}
