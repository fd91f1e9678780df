//! Commands run in an instance from outside, and the faults that are armed that way.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;

use super::host::Host;
use super::wire::{Answer, Ask};

/// What a command run by [`Host::exec`] left.
#[derive(Debug, Clone)]
pub struct Executed {
    /// The exit code; 128 + n after signal n.
    pub code: i32,
    /// Everything it wrote to stdout.
    pub stdout: Vec<u8>,
    /// Everything it wrote to stderr.
    pub stderr: Vec<u8>,
}

impl Host {
    /// Runs a command in the instance and waits for it to end.
    ///
    /// # Errors
    /// Where the instance is not running, or goes down meanwhile.
    pub async fn exec<S: AsRef<str>>(&self, argv: &[S]) -> io::Result<Executed> {
        let control = self.control()?;
        let (stdout, out) = io::pipe()?;
        let (stderr, err) = io::pipe()?;
        let (stdout, stderr) = (collect(stdout)?, collect(stderr)?);
        let argv = argv.iter().map(|word| word.as_ref().to_owned()).collect();
        let (out, err) = (OwnedFd::from(out), OwnedFd::from(err));
        let asked = control.ask(Ask::Exec(argv), &[out.as_fd(), err.as_fd()]).await;
        drop((out, err));
        let code = match asked?.0 {
            Answer::Exit(code) => code,
            other => return Err(io::Error::other(format!("pid 1 answered {other:?} to a command"))),
        };
        // A background child may hold the pipes; what it writes later is not this command's.
        let grace = Duration::from_secs(1);
        Ok(Executed { code, stdout: stdout.finish(grace).await, stderr: stderr.finish(grace).await })
    }

    /// Arms the instance's `sim-fault` command: the next `times` calls for this lifecycle event print the message
    /// and exit with this code.
    ///
    /// # Errors
    /// Where the instance is not running or the file can't be written.
    pub async fn arm_fault(&self, event: &str, exit: i32, message: &str, times: u32) -> io::Result<()> {
        let script = r#"d="${DROVER_ROOT:-}/run/drover-sim/faults"; mkdir -p "$d" && printf '%s\n' "$2" "$3" "$4" >"$d/.$1" && mv "$d/.$1" "$d/$1""#;
        let (exit, times) = (exit.to_string(), times.to_string());
        let done = self.exec(&["/bin/sh", "-c", script, "sh", event, &exit, &times, message]).await?;
        if done.code == 0 {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "arm a fault for {event} in {}: {}",
            self.id(),
            String::from_utf8_lossy(&done.stderr).trim()
        )))
    }
}

/// A pipe that is read to its end beside the command that fills it.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

fn collect(pipe: io::PipeReader) -> io::Result<Collected> {
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe.into())?;
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let sink = bytes.clone();
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
            sink.extend_from_slice(&buffer[..count]);
        }
    });
    Ok(Collected { bytes, task })
}

impl Collected {
    async fn finish(mut self, grace: Duration) -> Vec<u8> {
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            self.task.abort();
        }
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
