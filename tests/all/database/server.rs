//! A throw-away PostgreSQL server: a cluster in a directory of its own, on a port of its own, gone with the test.

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, chown, geteuid},
};
use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PASSWORD: &str = "so secret";

pub struct Postgres {
    directory: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
}

impl Postgres {
    pub fn start() -> Postgres {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(directory.path().join("password"), PASSWORD).unwrap();
        if let Some(user) = user() {
            for path in [directory.path().to_path_buf(), directory.path().join("password")] {
                chown(&path, Some(user.uid), Some(user.gid)).unwrap();
            }
        }
        let mut server = Postgres { directory, port, process: None };
        let made = server
            .program("initdb")
            .args([
                "--auth=scram-sha-256",
                "--username=drover",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ])
            .arg("--pwfile")
            .arg(server.directory.path().join("password"))
            .arg("-D")
            .arg(server.directory.path().join("data"))
            .stdout(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.up();
        server
    }

    /// A program of the server's. The server refuses to be root, and ends with the thread that started it.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(user) = user() {
            command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
            command.arg("--clear-groups");
        }
        command.arg(found(name)).current_dir(self.directory.path());
        command
    }

    /// Starts it, for the first time or again, and waits until it answers.
    pub fn up(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.path().join("log"));
        let process = self
            .program("postgres")
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"])
            .args(["-c", &format!("port={}", self.port)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let limit = Instant::now() + Duration::from_secs(60);
        while self.sql("SELECT 1").is_err() {
            let log = || fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < limit, "the server doesn't answer: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as a restart does: sessions are cut off.
    pub fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = kill(Pid::from_raw(i32::try_from(process.id()).unwrap()), Signal::SIGINT);
            process.wait().unwrap();
        }
    }

    /// Runs a statement.
    pub fn sql(&self, statement: &str) -> Result<String, String> {
        self.sql_on("postgres", statement)
    }

    /// The same on another database: rows as lines, columns apart by `|`.
    pub fn sql_on(&self, database: &str, statement: &str) -> Result<String, String> {
        let output = Command::new(found("psql"))
            .args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, &self.url(database)])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            Ok(text)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// A new database on it; its URL.
    pub fn create(&self, name: &str) -> String {
        self.sql(&format!("CREATE DATABASE {name}")).unwrap();
        self.url(name)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, database: &str) -> String {
        let password = PASSWORD.replace(' ', "%20");
        format!("postgres://drover:{password}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.down();
    }
}

/// Whom the server is to run as, where we are root.
fn user() -> Option<User> {
    let name = |name| User::from_name(name).ok().flatten();
    geteuid().is_root().then(|| name("postgres").or_else(|| name("nobody")).unwrap())
}

/// Debian keeps the server's programs out of PATH.
fn found(name: &str) -> PathBuf {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = debian.chain(std::env::split_paths(&path)).collect();
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: install Debian's package postgresql"))
}
