//! The command line: one file a subcommand.

pub mod adopt;
pub mod appspec;
pub mod backup;
pub mod cancel;
pub mod check;
pub mod client;
#[cfg(feature = "sim")]
pub mod demo;
pub mod deploy;
pub mod follow;
pub mod group;
pub mod groups;
pub mod lock;
pub mod logs;
pub mod plan;
pub mod quarantine;
#[cfg(feature = "sim")]
pub mod rehearse;
pub mod render;
pub mod serve;
#[cfg(feature = "sim")]
pub mod sim;
pub mod status;
pub mod submission;
pub mod tail;
pub mod token;
pub mod verb;

/// Ends when standard input does; never, unless wanted.
async fn stdin_closed(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // A thread of its own: the runtime would wait for a blocked read when it ends.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

/// What git answers.
#[cfg(feature = "sim")]
fn git(repository: &std::path::Path, arguments: &[&str]) -> anyhow::Result<String> {
    use anyhow::Context as _;
    use std::process::Command;
    let output =
        Command::new("git").arg("-C").arg(repository).args(arguments).output().context("running git")?;
    anyhow::ensure!(
        output.status.success(),
        "git {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
