//! drover's entry point: arguments and the daemon's own log.

use anyhow::Context as _;
use clap::Parser;
use drover::{
    cli::{self, client::ApiError, follow::NotKnown, serve::LogForm},
    rollout::verb::Verb,
};
use std::{io::IsTerminal as _, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// Rolling deploys to EC2 instances in an Auto Scaling group behind an Application Load Balancer.
#[derive(Parser)]
#[command(name = "drover", version)]
enum Command {
    /// Run the daemon.
    Serve(cli::serve::Args),
    /// Check a configuration file and do nothing else.
    Check(cli::check::Args),
    /// Copy the daemon's database, also while it works.
    Backup(cli::backup::Args),
    /// Deploy a revision to a deployment group.
    Deploy(cli::deploy::Args),
    /// Print or follow a deployment's log.
    Logs(cli::logs::Args),
    /// Wait for a group's next deployment and follow it, over and over.
    Tail(cli::tail::Args),
    /// Show the deployments, or one of them.
    Status(cli::status::Args),
    /// Cancel a deployment.
    Cancel(cli::cancel::Args),
    /// Pause a deployment: what is in work finishes, nothing new is started, the group is put in order.
    Pause(cli::verb::Args),
    /// Let a paused or halted deployment go on; failures until now no longer count.
    Resume(cli::verb::Args),
    /// Let a deployment go on past `approve_after`.
    Approve(cli::verb::Args),
    /// Try again what failed, and nothing else.
    Retry(cli::verb::RetryArgs),
    /// Bring what a deployment changed back to the last good revision.
    Rollback(cli::verb::Args),
    /// Show what a deployment would do to the fleet as it is now; changes nothing.
    Plan(cli::plan::Args),
    /// List, retry, release and terminate the instances that failed and are kept out of the balancer.
    Quarantine(cli::quarantine::Args),
    /// Keep what is submitted to a group in its queue.
    Lock(cli::lock::LockArgs),
    /// Let it go on.
    Unlock(cli::lock::UnlockArgs),
    /// Install or remove a group's launch hook; put a group back in order from its tag.
    Group(cli::group::Args),
    /// Write down what a group runs that something else has deployed to; touches no host.
    Adopt(cli::adopt::Args),
    /// List the deployment groups.
    Groups(cli::groups::Args),
    /// List, make and revoke the tokens that open the API and the page.
    Token(cli::token::Args),
    /// Check a revision before it is pushed.
    Appspec(cli::appspec::Args),
    /// Run a repository's real hooks on one simulated instance, on this machine.
    #[cfg(feature = "sim")]
    Rehearse(cli::rehearse::Args),
    /// See it work: a simulated cloud, a daemon, load, and a deployment.
    #[cfg(feature = "sim")]
    Demo(cli::demo::Args),
    /// Start the simulated cloud.
    #[cfg(feature = "sim")]
    Sim(cli::sim::SimArgs),
}

/// Log lines of the daemon go to standard error; RUST_LOG chooses which.
fn log_to_stderr(form: LogForm) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,aws_config=warn"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match form {
        LogForm::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogForm::Json => lines.json().flatten_event(true).with_span_list(false).init(),
    }
}

async fn run(command: Command) -> anyhow::Result<i32> {
    match command {
        Command::Serve(args) => {
            log_to_stderr(args.log);
            cli::serve::run(args).await
        }
        Command::Check(args) => cli::check::run(&args).await,
        Command::Backup(args) => cli::backup::run(&args).await,
        Command::Deploy(args) => cli::deploy::run(args).await,
        Command::Logs(args) => cli::logs::run(args).await,
        Command::Tail(args) => cli::tail::run(args).await,
        Command::Status(args) => cli::status::run(args).await,
        Command::Cancel(args) => cli::cancel::run(args).await,
        Command::Pause(args) => cli::verb::run(Verb::Pause, args).await,
        Command::Resume(args) => cli::verb::run(Verb::Resume, args).await,
        Command::Approve(args) => cli::verb::run(Verb::Approve, args).await,
        Command::Retry(args) => cli::verb::retry(args).await,
        Command::Rollback(args) => cli::verb::run(Verb::Rollback, args).await,
        Command::Plan(args) => cli::plan::run(args).await,
        Command::Quarantine(args) => cli::quarantine::run(args).await,
        Command::Lock(args) => cli::lock::lock(args).await,
        Command::Unlock(args) => cli::lock::unlock(args).await,
        Command::Group(args) => cli::group::run(args).await,
        Command::Adopt(args) => cli::adopt::run(args).await,
        Command::Groups(args) => cli::groups::run(args).await,
        Command::Token(args) => cli::token::run(args).await,
        Command::Appspec(args) => cli::appspec::run(&args),
        #[cfg(feature = "sim")]
        Command::Rehearse(args) => cli::rehearse::run(args).await,
        #[cfg(feature = "sim")]
        Command::Demo(args) => cli::demo::run(args).await,
        #[cfg(feature = "sim")]
        Command::Sim(args) => cli::sim::run(args).await.map(|()| 0),
    }
}

/// Exit codes, see README: 2 where the daemon finds fault with what was asked, 5 where the end of what is followed is not known.
fn code_of(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<NotKnown>().is_some() {
        5
    } else if error.downcast_ref::<ApiError>().is_some_and(ApiError::is_usage) {
        2
    } else {
        1
    }
}

/// A simulated instance enters its namespaces here, before any thread exists.
#[cfg(feature = "sim")]
fn hidden_subcommand() -> Option<anyhow::Result<ExitCode>> {
    let arguments: Vec<_> = std::env::args_os().collect();
    cli::sim::hidden_subcommand(&arguments)
}

#[cfg(not(feature = "sim"))]
fn hidden_subcommand() -> Option<anyhow::Result<ExitCode>> {
    None
}

fn main() -> ExitCode {
    let ended = hidden_subcommand().unwrap_or_else(|| {
        let command = Command::parse();
        let code = tokio::runtime::Runtime::new().context("starting the runtime")?.block_on(run(command))?;
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    });
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(code_of(&error))
    })
}
