//! `drover check`: reads the configuration and says what is wrong with it and with the files, the database, and where it is
//! asked to look further, the AWS resources and the repositories that it names. Touches nothing.

use super::serve;
use crate::{
    config::{self, Config, Server},
    engine::{Findings, examine},
    fleet::Fleet,
    github::Repositories,
    store::Database,
    web,
};
use std::{io::Write as _, path::PathBuf};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, default_value = "drover.toml")]
    pub config: PathBuf,
    /// Look at the Auto Scaling groups, target groups, launch hooks and the log group, too, with the environment's AWS
    /// credentials.
    #[arg(long)]
    pub aws: bool,
    /// Look at the repositories and their branches, too, with the environment's GitHub token or the configured app.
    #[arg(long)]
    pub github: bool,
    /// The database that the daemon is given: postgres://USER@HOST/NAME.
    #[arg(long, env = "DROVER_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// The daemon is to be started with --insecure-listen.
    #[arg(long)]
    pub insecure_listen: bool,
}

/// Exit code 0: sound; 1: not, and the words say what, where.
pub async fn run(args: &Args) -> anyhow::Result<i32> {
    let config = config::load(&args.config)?;
    if !args.insecure_listen {
        config::check_exposure(&args.config, &config)?;
    }
    let groups: Vec<_> = config.group_names().collect();
    let mut wrong = print(
        "",
        &Findings::note(format!(
            "{}: sound; deployment groups: {}",
            args.config.display(),
            groups.join(", ")
        )),
    );
    wrong += print("server: ", &check_server(&config.server, args.database.as_deref()).await);
    if args.github {
        wrong += print("github: ", &check_github(&config).await);
    }
    if args.aws {
        let fleet = Fleet::connect(&config.aws).await;
        if config.server.public_url.is_none() {
            wrong += print("aws: ", &check_log_group(&fleet, &config.aws.log_group).await);
        }
        for name in &groups {
            let Some((_, group)) = config.group(name) else { continue };
            let findings =
                examine(&fleet, name, group).await.unwrap_or_else(|e| Findings::wrong(format!("{e:#}")));
            wrong += print(&format!("{name}: "), &findings);
        }
    }
    Ok(i32::from(wrong > 0))
}

/// Prints findings; how many of them are wrong. A reader that has gone away is no reason to fail.
fn print(about: &str, findings: &Findings) -> usize {
    let mut out = std::io::stdout().lock();
    for line in &findings.notes {
        let _ = writeln!(out, "{about}{line}");
    }
    for line in &findings.wrong {
        let _ = writeln!(out, "{about}wrong: {line}");
    }
    findings.wrong.len()
}

/// The files of TLS, the data directory, the database.
async fn check_server(server: &Server, database: Option<&str>) -> Findings {
    let mut findings = Findings::default();
    if let Some(tls) = &server.tls {
        match web::tls(&tls.certificate, &tls.key) {
            Ok(_) => findings.notes.push(format!("{} and its key fit together", tls.certificate.display())),
            Err(error) => findings.wrong.push(format!("{error:#}")),
        }
    }
    if server.public_url.as_ref().is_some_and(|url| url.starts_with("http://")) {
        findings.notes.push(
            "public_url is no https: instances fetch their releases and push their logs in the clear"
                .to_owned(),
        );
    }
    match std::fs::metadata(&server.data) {
        Ok(data) if !data.is_dir() => {
            findings.wrong.push(format!("data: {} is no directory", server.data.display()));
        }
        Ok(_) => findings.notes.push(format!("data is in {}", server.data.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.notes.push(format!("data: the first start makes {}", server.data.display()));
        }
        Err(error) => findings.wrong.push(format!("data: {}: {error}", server.data.display())),
    }
    match serve::database(database, server, &server.data) {
        Err(error) => findings.wrong.push(format!("{error:#}")),
        Ok(database @ Database::Server(_)) => match database.check_reachable().await {
            Ok(()) => findings.notes.push(format!("the database {database} is there")),
            Err(error) => findings.wrong.push(error.to_string()),
        },
        Ok(Database::File(_)) => {}
    }
    findings
}

/// What the daemon may see on GitHub of each group's branch, and how it learns of pushes.
async fn check_github(config: &Config) -> Findings {
    let mut findings = Findings::default();
    let github = match Repositories::connect(&config.github) {
        Ok(github) => github,
        Err(error) => return Findings::wrong(format!("{error:#}")),
    };
    if config.github.app.is_none() && config.github.token().is_none() {
        findings.notes.push(format!(
            "no token in {} and no app: public repositories alone, and 60 questions an hour",
            config.github.token_env
        ));
    }
    match (config.github.webhook_secret(), config.github.polling()) {
        (Some(_), _) => {}
        (None, Some(pause)) => findings.notes.push(format!(
            "no secret in {}: webhooks are refused, and branches are asked for every {pause:#}",
            config.github.webhook_secret_env
        )),
        (None, None) => {
            findings.notes.push("neither a webhook secret nor polling: nothing deploys by itself".into())
        }
    }
    for name in config.group_names() {
        let Some((application, group)) = config.group(&name) else { continue };
        let (repository, branch) = (&application.repository, group.branch(application));
        match github.head(repository, branch).await {
            Ok(head) => findings.notes.push(format!(
                "{name}: {branch} of {repository} is at {} ({})",
                head.sha.get(..12).unwrap_or(&head.sha),
                head.title
            )),
            Err(error) => findings.wrong.push(format!("{name}: {error}")),
        }
    }
    findings
}

/// Whether the daemon may read the log group that the instances' agents upload to.
async fn check_log_group(fleet: &Fleet, group: &str) -> Findings {
    match fleet.may_read(group).await {
        Ok(()) => Findings::note(format!("logs can be read from {group}, should the agents upload to it")),
        Err(error) => Findings::wrong(format!(
            "{error}; without public_url logs come by the log group {group}: the daemon needs logs:GetLogEvents on it"
        )),
    }
}
