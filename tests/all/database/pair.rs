//! Two daemons on one database, and what stands before them.

use drover::cli::demo::playground::Playground;
use serde_json::Value;
use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout},
    sync::Mutex,
};

/// What stands before two daemons: connections go to the first one that takes them.
pub struct Front {
    pub address: SocketAddr,
    daemons: Arc<Mutex<Vec<String>>>,
}

impl Front {
    pub async fn start() -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let daemons: Arc<Mutex<Vec<String>>> = Arc::default();
        let front = Front { address: listener.local_addr().unwrap(), daemons: Arc::clone(&daemons) };
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let daemons = daemons.lock().await.clone();
                tokio::spawn(async move {
                    for daemon in daemons {
                        if let Ok(mut server) = TcpStream::connect(daemon).await {
                            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            }
        });
        front
    }

    /// Leads to these from now on, in this order of preference.
    pub async fn lead_to(&self, urls: &[&str]) {
        let addresses = urls.iter().map(|url| url.trim_start_matches("http://").to_owned());
        *self.daemons.lock().await = addresses.collect();
    }
}

/// A second daemon on the same database.
pub struct Second {
    pub url: String,
    lines: Lines<BufReader<ChildStdout>>,
    process: Child,
}

impl Second {
    /// Starts it while the other one is active.
    pub async fn start(world: &Playground) -> Second {
        let log = std::fs::File::create(world.setup.data.join("second.log")).unwrap();
        let mut command = world.daemon_command();
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(world.setup.data.join("second"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut second = Second { url: String::new(), lines, process };
        let said = second.says().await;
        second.url = said["standby"]["url"].as_str().unwrap().into();
        assert!(
            said["standby"]["active"].as_str().unwrap().contains("the daemon at 127.0.0.1 (process "),
            "{said}"
        );
        second
    }

    /// What it says next.
    pub async fn says(&mut self) -> Value {
        let line = tokio::time::timeout(Duration::from_secs(60), self.lines.next_line()).await;
        serde_json::from_str(&line.expect("it says something").unwrap().expect("it runs")).unwrap()
    }

    /// Ends it in an orderly way.
    pub async fn end(mut self) {
        drop(self.process.stdin.take());
        self.process.wait().await.unwrap();
    }
}
