//! drover's entry point.
use clap::Parser;
use drover::cli;

#[derive(Parser)]
#[command(name = "drover", version)]
enum Command {
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

#[tokio::main]
async fn main() {
    let result = match Command::parse() {
        Command::Deploy(args) => cli::deploy::run(args).await,
        Command::Logs(args) => cli::logs::run(args).await,
        Command::Status(args) => cli::status::run(args).await,
        Command::Cancel(args) => cli::cancel::run(args).await,
        Command::Groups(args) => cli::groups::run(args).await,
    };
    let code = result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        1
    });
    std::process::exit(code);
}
