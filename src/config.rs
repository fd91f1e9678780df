//! `drover.toml`: one struct a concern, unknown keys refused, errors that name file, line and key.

mod place;
mod template;

pub use place::ConfigError;
pub use template::{Place, Template};

use crate::rollout::policy::Policy;
use jiff::SignedDuration;
use place::{find_key, key_at, line_and_column};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the daemon listens and keeps its state.
    #[serde(default)]
    pub server: Server,
    /// AWS.
    #[serde(default)]
    pub aws: Aws,
    /// GitHub.
    #[serde(default)]
    pub github: GitHub,
    /// Applications by name.
    pub applications: BTreeMap<String, Application>,
}

/// Where the daemon listens and keeps its state.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address to listen on. Default `127.0.0.1:7700`. Beyond loopback only with `tls`, with `trusted_proxies`, or with
    /// `drover serve --insecure-listen`.
    pub listen: SocketAddr,
    /// Certificate and key, for HTTPS.
    pub tls: Option<Tls>,
    /// Addresses of the proxies that may connect; they say by `X-Forwarded-For` where a request comes from.
    pub trusted_proxies: Vec<IpAddr>,
    /// Under which URL the instances reach the daemon, for the bundle and the pushed logs; port 0 stands for the port
    /// that is listened on. None (the default): nothing comes in. Hosts then fetch the bundle by GitHub's short-lived link,
    /// and their logs are read from CloudWatch Logs.
    pub public_url: Option<String>,
    /// Directory of the database, the bundles and the first token. Default `/var/lib/drover`.
    pub data: PathBuf,
    /// A PostgreSQL database instead of a file in `data`: `postgres://USER@HOST/NAME`, with the password in PGPASSWORD or
    /// in the URL. A second daemon on the same database waits as standby. Not through a pooler that shares connections.
    pub database: Option<String>,
    /// How often AWS is asked while something is due; down to a fifth as often where nothing is. Default 1 s.
    pub poll: SignedDuration,
    /// Bundles of so many revisions, the last that were deployed, stay on the daemon's disk; those of deployments that are
    /// not over, and of the revisions that instances run, stay beyond it. Default 50. One that is gone is fetched anew.
    pub keep_bundles: u32,
    /// … as long as they take no more room than this. Default 10 (GB).
    pub keep_bundles_gb: u32,
    /// Logs, scripts and attempts of deployments that ended before are removed, but for the one that brought each group its
    /// last good revision. Default 90.
    pub keep_days: u32,
    /// Where logs take more room than that, those of the oldest deployments are removed. Default 10 (GB).
    pub keep_gb: u32,
    /// Of one attempt on one instance so much log is kept, on the instance and here; the rest is counted. Default 256 (MiB).
    pub attempt_log_mib: u32,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            tls: None,
            trusted_proxies: Vec::new(),
            public_url: None,
            data: "/var/lib/drover".into(),
            database: None,
            poll: SignedDuration::from_secs(1),
            keep_bundles: 50,
            keep_bundles_gb: 10,
            keep_days: 90,
            keep_gb: 10,
            attempt_log_mib: 256,
        }
    }
}

/// Files of TLS, in PEM. Read at the start of the daemon.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Server {
    /// Bytes of bundles that are kept beside those in use.
    pub fn bundle_bytes(&self) -> u64 {
        u64::from(self.keep_bundles_gb) * 1_000_000_000
    }

    /// Bytes of log that are kept of one attempt.
    pub fn attempt_log_bytes(&self) -> u64 {
        u64::from(self.attempt_log_mib) * 1024 * 1024
    }

    /// Why the address may not be listened on as things are; none if it may.
    pub fn exposed(&self) -> Option<String> {
        let safe = self.listen.ip().is_loopback() || self.tls.is_some() || !self.trusted_proxies.is_empty();
        (!safe).then(|| {
            format!(
                "{} is not a loopback address, and tokens would cross the network in the clear: give [server.tls] a certificate \
                 and a key, or name the proxy before the daemon in server.trusted_proxies, or listen on 127.0.0.1 \
                 (serve --insecure-listen does it all the same)",
                self.listen
            )
        })
    }
}

/// AWS: credentials come from the environment, as every AWS tool takes them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    /// Region; else the environment's.
    pub region: Option<String>,
    /// Another endpoint for all services (the simulated cloud).
    pub endpoint: Option<String>,
    /// CloudWatch log group that the agents upload to where there is no `server.public_url`. Default `/drover`. It keeps
    /// what hooks print, unmasked; its retention is yours to set.
    pub log_group: String,
    /// How much of the account's own limits on requests the daemon takes at most, for all its deployments together, in per
    /// cent. Default 30. More than 100 is for the simulated cloud, whose time runs faster.
    pub call_budget: u32,
}

impl Default for Aws {
    fn default() -> Self {
        Aws { region: None, endpoint: None, log_group: "/drover".into(), call_budget: 30 }
    }
}

/// GitHub.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GitHub {
    /// API URL. Default `https://api.github.com`.
    pub api: String,
    /// Environment variable that holds the token (contents: read). Default `GITHUB_TOKEN`.
    pub token_env: String,
    /// A GitHub App that is asked as instead of with a token.
    pub app: Option<GitHubApp>,
    /// Environment variable that holds the webhook's secret. Default `DROVER_WEBHOOK_SECRET`; where it is empty, webhooks
    /// are refused and branches are polled instead.
    pub webhook_secret_env: String,
    /// How often the branches of groups with `auto_deploy` are polled; `"0s"` never. Default every 30 s where there is no
    /// webhook secret, else every 5 min, for deliveries that were lost. A branch that hasn't moved costs none of GitHub's
    /// 5,000 requests an hour (its answer is conditional).
    pub poll_branches: Option<SignedDuration>,
}

impl Default for GitHub {
    fn default() -> Self {
        GitHub {
            api: "https://api.github.com".into(),
            token_env: "GITHUB_TOKEN".into(),
            app: None,
            webhook_secret_env: "DROVER_WEBHOOK_SECRET".into(),
            poll_branches: None,
        }
    }
}

/// A GitHub App: installed on the repositories, with the permission to read contents.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitHubApp {
    /// Its App ID, from its settings page.
    pub id: u64,
    /// The file of its private key, as GitHub gave it (PEM).
    pub key: PathBuf,
}

/// Without a webhook, branches are polled this often.
const POLL_BRANCHES: SignedDuration = SignedDuration::from_secs(30);
/// Beside a webhook, this often.
const CATCH_UP: SignedDuration = SignedDuration::from_mins(5);

impl GitHub {
    /// The token, from the environment.
    pub fn token(&self) -> Option<String> {
        std::env::var(&self.token_env).ok().filter(|token| !token.is_empty())
    }

    /// The webhook's secret, from the environment.
    pub fn webhook_secret(&self) -> Option<String> {
        std::env::var(&self.webhook_secret_env).ok().filter(|secret| !secret.is_empty())
    }

    /// How often branches are polled, if at all.
    pub fn polling(&self) -> Option<SignedDuration> {
        let default = if self.webhook_secret().is_some() { CATCH_UP } else { POLL_BRANCHES };
        Some(self.poll_branches.unwrap_or(default)).filter(|pause| !pause.is_zero())
    }
}

/// An application: a repository, and the groups of instances that run it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// `owner/name` on GitHub.
    pub repository: String,
    /// A commit must be on this branch to be deployed. Default `main`.
    #[serde(default = "default_branch")]
    pub branch: String,
    /// The folder of the repository that holds the application, with its `appspec.yml`. Default: all of the repository.
    #[serde(default)]
    pub path: String,
    /// Where CI puts the bundle of each commit, `"s3://bucket/path/{sha}.zip"` or `"https://host/{sha}.tar.gz"` with a
    /// checksum beside it (`….sha256`); a tar archive, alone or gzipped, or a zip. Default: GitHub's archive of the commit.
    #[serde(default)]
    pub bundle: Option<Template>,
    /// Releases kept on an instance. Default 5, as CodeDeploy.
    #[serde(default = "default_keep")]
    pub keep_releases: u32,
    /// Extra environment of the hooks.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Further variables of their environment, whose values are secret: hosts get them from Parameter Store by their own role.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// Deployment groups by name: `production` of application `eval` is `eval/production`.
    pub groups: BTreeMap<String, Group>,
}

/// Where a secret value is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// A parameter of Systems Manager's Parameter Store, in the instances' region.
    pub parameter: String,
}

fn default_branch() -> String {
    "main".into()
}

fn default_keep() -> u32 {
    5
}

/// A deployment group.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Names of the Auto Scaling groups whose instances it deploys to.
    pub auto_scaling_groups: Vec<String>,
    /// ARNs of further target groups, which none of the Auto Scaling groups registers.
    #[serde(default)]
    pub target_groups: Vec<String>,
    /// Another branch than the application's.
    #[serde(default)]
    pub branch: Option<String>,
    /// A push to the branch deploys by itself. Default no.
    #[serde(default)]
    pub auto_deploy: bool,
    /// How it is rolled.
    #[serde(default)]
    pub policy: Policy,
}

impl Group {
    /// The branch whose commits may be deployed here.
    pub fn branch<'a>(&'a self, application: &'a Application) -> &'a str {
        self.branch.as_deref().unwrap_or(&application.branch)
    }
}

/// Reads and checks the file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
        file: path.into(),
        place: None,
        message: format!("the config file can't be read: {e}"),
    })?;
    parse(path, &text)
}

/// Refuses an address beyond loopback that nothing protects.
pub fn check_exposure(path: &Path, config: &Config) -> Result<(), ConfigError> {
    let Some(why) = config.server.exposed() else { return Ok(()) };
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let place = find_key(&text, "server", "listen").map(|offset| line_and_column(&text, offset));
    Err(ConfigError { file: path.into(), place, message: format!("server.listen: {why}") })
}

/// Checks the text of a file.
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let at = |offset: Option<usize>, message: String| ConfigError {
        file: path.into(),
        place: offset.map(|offset| line_and_column(text, offset)),
        message,
    };
    let config: Config = toml::from_str(text).map_err(|e| {
        let key = e
            .span()
            .and_then(|span| key_at(text, span.start))
            .map(|key| format!("{key}: "))
            .unwrap_or_default();
        at(e.span().map(|span| span.start), format!("{key}{}", e.message()))
    })?;
    config.check().map_err(|Wrong { table, key, message }| {
        let path = if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") };
        at(find_key(text, &table, key), format!("{path}: {message}"))
    })?;
    Ok(config)
}

struct Wrong {
    table: String,
    key: &'static str,
    message: String,
}

fn wrong<T>(table: impl Into<String>, key: &'static str, message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { table: table.into(), key, message: message.into() })
}

impl Config {
    fn check(&self) -> Result<(), Wrong> {
        if self.server.poll < SignedDuration::from_millis(50)
            || self.server.poll > SignedDuration::from_mins(1)
        {
            return wrong("server", "poll", "write a time between \"50ms\" and \"1m\"");
        }
        if let Some(url) = &self.server.database
            && !(url.starts_with("postgres://") || url.starts_with("postgresql://"))
        {
            // Not repeated: there may be a password in it.
            let message = "it is no URL of a PostgreSQL database: write \"postgres://USER@HOST/NAME\"";
            return wrong("server", "database", message);
        }
        if let Some(pause) = self.github.poll_branches
            && !pause.is_zero()
            && (pause < SignedDuration::from_secs(1) || pause > SignedDuration::from_hours(24))
        {
            let message = "write \"0s\" for never, or a time between \"1s\" and \"24h\"";
            return wrong("github", "poll_branches", message);
        }
        if !(5..=4_000).contains(&self.aws.call_budget) {
            return wrong("aws", "call_budget", "write the share in per cent: a number from 5 to 100");
        }
        for url in [self.server.public_url.as_ref(), self.aws.endpoint.as_ref(), Some(&self.github.api)]
            .into_iter()
            .flatten()
        {
            if !(url.starts_with("http://") || url.starts_with("https://")) {
                return wrong(
                    "",
                    "url",
                    format!("'{url}' is no URL: it must start with http:// or https://"),
                );
            }
        }
        if self.applications.is_empty() {
            return wrong("", "applications", "no application is configured: write [applications.NAME]");
        }
        self.applications.iter().try_for_each(|(name, application)| application.check(name))
    }

    /// The group called `app/env`, with its application.
    pub fn group(&self, name: &str) -> Option<(&Application, &Group)> {
        let (application, group) = name.split_once('/')?;
        let application = self.applications.get(application)?;
        Some((application, application.groups.get(group)?))
    }

    /// The names of all groups.
    pub fn group_names(&self) -> impl Iterator<Item = String> {
        self.applications.iter().flat_map(|(app, application)| {
            application.groups.keys().map(move |group| format!("{app}/{group}"))
        })
    }
}

impl Application {
    fn check(&self, name: &str) -> Result<(), Wrong> {
        let table = format!("applications.{name}");
        let plain = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if !plain(name) || name.starts_with('.') {
            return wrong(table, "name", "an application's name has letters, digits, '-', '_' and '.' only");
        }
        if !self.repository.split_once('/').is_some_and(|(owner, repo)| plain(owner) && plain(repo)) {
            return wrong(
                table,
                "repository",
                format!("'{}' is no repository: write owner/name", self.repository),
            );
        }
        let inside = |part: &str| plain(part) && part != "." && part != "..";
        if !self.path.is_empty() && !self.path.split('/').all(inside) {
            let words = format!("'{}' is no folder of a repository: write it as \"services/api\"", self.path);
            return wrong(table, "path", words);
        }
        if self.keep_releases < 2 {
            return wrong(table, "keep_releases", "keep at least 2: the one that runs and the last good one");
        }
        let variable = |key: &str| {
            key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && key.starts_with(|c: char| !c.is_ascii_digit())
        };
        for (key, value) in &self.environment {
            if !variable(key) || value.contains('\n') {
                return wrong(
                    table,
                    "environment",
                    format!("'{key}' is no environment variable of one line"),
                );
            }
        }
        for (key, Secret { parameter }) in &self.secrets {
            // As Parameter Store names them; a colon is for a version or a label.
            let named = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
            if !variable(key) || self.environment.contains_key(key) {
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
        if self.groups.is_empty() {
            return wrong(
                table,
                "groups",
                "no deployment group is configured: write [applications.NAME.groups.ENV]",
            );
        }
        for (env, group) in &self.groups {
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
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let server =
            |lines: &str| parse(Path::new("x"), &format!("[server]\n{lines}\n{GOOD}")).unwrap().server;
        assert!(
            server("listen = \"0.0.0.0:80\"").exposed().is_some_and(|why| why.contains("trusted_proxies"))
        );
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
}
