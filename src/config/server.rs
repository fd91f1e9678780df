//! `[server]`: where the daemon listens and keeps its state.

use jiff::SignedDuration;
use serde::Deserialize;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// The address on which the daemon listens, and what it keeps.
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
    /// not over, and of the revisions that instances run, stay beyond it. Default 50. One that was removed is fetched again.
    pub keep_bundles: u32,
    /// … as long as they take no more room than this. Default 10 (GB).
    pub keep_bundles_gb: u32,
    /// Logs, scripts and attempts of deployments that ended before are removed, but for the one that brought each group its
    /// last good revision. Default 90.
    pub keep_days: u32,
    /// The room that logs may take; beyond it those of the oldest deployments are removed. Default 10 (GB).
    pub keep_gb: u32,
    /// How much log of one attempt on one instance is kept, on the instance and here; the rest is counted. Default 256
    /// (MiB).
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
    /// Returns how many bytes of bundles are kept beside those in use.
    pub fn bundle_bytes(&self) -> u64 {
        u64::from(self.keep_bundles_gb) * 1_000_000_000
    }

    /// Returns how many bytes of log are kept of one attempt.
    pub fn attempt_log_bytes(&self) -> u64 {
        u64::from(self.attempt_log_mib) * 1024 * 1024
    }

    /// Returns why the daemon may not listen on this address with this configuration; none if it may.
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
