//! Refuses values that are wrong for other reasons than their type.

use super::{
    Config,
    application::{Application, Secret},
};
use jiff::SignedDuration;

/// A value that is wrong, and why.
pub(super) struct Wrong {
    pub(super) table: String,
    pub(super) key: &'static str,
    pub(super) message: String,
}

/// Refuses the value of `key` in `table`.
fn wrong<T>(table: impl Into<String>, key: &'static str, message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { table: table.into(), key, message: message.into() })
}

/// Checks what can't be wrong by its type alone.
pub(super) fn check(config: &Config) -> Result<(), Wrong> {
    if config.server.poll < SignedDuration::from_millis(50)
        || config.server.poll > SignedDuration::from_mins(1)
    {
        return wrong("server", "poll", "write a time between \"50ms\" and \"1m\"");
    }
    if let Some(url) = &config.server.database
        && !(url.starts_with("postgres://") || url.starts_with("postgresql://"))
    {
        // Not repeated: there may be a password in it.
        let message = "it is no URL of a PostgreSQL database: write \"postgres://USER@HOST/NAME\"";
        return wrong("server", "database", message);
    }
    if let Some(pause) = config.github.poll_branches
        && !pause.is_zero()
        && (pause < SignedDuration::from_secs(1) || pause > SignedDuration::from_hours(24))
    {
        let message = "write \"0s\" for never, or a time between \"1s\" and \"24h\"";
        return wrong("github", "poll_branches", message);
    }
    if !(5..=4_000).contains(&config.aws.call_budget) {
        return wrong("aws", "call_budget", "write the share in per cent: a number from 5 to 100");
    }
    for url in [config.server.public_url.as_ref(), config.aws.endpoint.as_ref(), Some(&config.github.api)]
        .into_iter()
        .flatten()
    {
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return wrong("", "url", format!("'{url}' is no URL: it must start with http:// or https://"));
        }
    }
    if config.applications.is_empty() {
        return wrong("", "applications", "no application is configured: write [applications.NAME]");
    }
    config.applications.iter().try_for_each(|(name, application)| check_application(application, name))
}

fn check_application(application: &Application, name: &str) -> Result<(), Wrong> {
    let table = format!("applications.{name}");
    let plain =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !plain(name) || name.starts_with('.') {
        return wrong(table, "name", "an application's name has letters, digits, '-', '_' and '.' only");
    }
    if !application.repository.split_once('/').is_some_and(|(owner, repo)| plain(owner) && plain(repo)) {
        return wrong(
            table,
            "repository",
            format!("'{}' is no repository: write owner/name", application.repository),
        );
    }
    let inside = |part: &str| plain(part) && part != "." && part != "..";
    if !application.path.is_empty() && !application.path.split('/').all(inside) {
        let words =
            format!("'{}' is no folder of a repository: write it as \"services/api\"", application.path);
        return wrong(table, "path", words);
    }
    if application.keep_releases < 2 {
        return wrong(table, "keep_releases", "keep at least 2: the one that runs and the last good one");
    }
    let variable = |key: &str| {
        key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && key.starts_with(|c: char| !c.is_ascii_digit())
    };
    for (key, value) in &application.environment {
        if !variable(key) || value.contains('\n') {
            return wrong(table, "environment", format!("'{key}' is no environment variable of one line"));
        }
    }
    for (key, Secret { parameter }) in &application.secrets {
        // As Parameter Store names them; a colon is for a version or a label.
        let named = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
        if !variable(key) || application.environment.contains_key(key) {
            return wrong(
                table,
                "secrets",
                format!("'{key}' is no environment variable, or is in environment too"),
            );
        }
        if parameter.is_empty() || parameter.starts_with('-') || !parameter.chars().all(named) {
            let words =
                format!("{key}: '{parameter}' is no name of a parameter: write it as \"/eval/db-url\"");
            return wrong(table, "secrets", words);
        }
    }
    if application.groups.is_empty() {
        return wrong(
            table,
            "groups",
            "no deployment group is configured: write [applications.NAME.groups.ENV]",
        );
    }
    for (env, group) in &application.groups {
        let table = format!("{table}.groups.{env}");
        if !plain(env) {
            return wrong(table, "name", "a group's name has letters, digits, '-', '_' and '.' only");
        }
        if group.auto_scaling_groups.is_empty() {
            return wrong(table, "auto_scaling_groups", "name at least one Auto Scaling group");
        }
        if let Err(message) = group.policy.check() {
            return wrong(table, "policy", message);
        }
    }
    Ok(())
}
