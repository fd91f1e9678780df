//! drover's entry point: arguments and the daemon's own log.

use clap::Parser;
use drover::cli;
use tracing_subscriber::EnvFilter;

/// Rolling deploys to EC2 instances in an Auto Scaling group behind an Application Load Balancer.
#[derive(Parser)]
#[command(name = "drover", version)]
enum Command {
    /// Run the daemon.
    Serve(cli::serve::Args),
    /// Check a configuration file and do nothing else.
    Check(cli::check::Args),
    /// Deploy a revision to a deployment group.
    Deploy(cli::deploy::Args),
    /// Print or follow a deployment's log.
    Logs(cli::logs::Args),
    /// Show the deployments, or one of them.
    Status(cli::status::Args),
    /// Cancel a deployment.
    Cancel(cli::cancel::Args),
    /// List the deployment groups.
    Groups(cli::groups::Args),
}

/// Log lines of the daemon go to standard error; RUST_LOG chooses which.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,aws_config=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

async fn run(command: Command) -> anyhow::Result<i32> {
    match command {
        Command::Serve(args) => {
            log_to_stderr();
            cli::serve::run(args).await
        }
        Command::Check(args) => cli::check::run(&args),
        Command::Deploy(args) => cli::deploy::run(args).await,
        Command::Logs(args) => cli::logs::run(args).await,
        Command::Status(args) => cli::status::run(args).await,
        Command::Cancel(args) => cli::cancel::run(args).await,
        Command::Groups(args) => cli::groups::run(args).await,
    }
}

#[tokio::main]
async fn main() {
    let code = run(Command::parse()).await.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        1
    });
    std::process::exit(code);
}
