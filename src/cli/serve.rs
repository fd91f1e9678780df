//! `drover serve`: the daemon.

pub(super) mod private;

use crate::{
    artifact::Artifacts,
    config,
    engine::{Engine, Parts, Secrets},
    fleet::Fleet,
    github::Repositories,
    logs::Logs,
    store::{Claim, Claimed, Database, Store, StoreError},
    web::{self, Acceptor, Standby, Strangers, Web},
};
use anyhow::Context as _;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// After the signal to stop, the daemon is gone at the latest after this.
const HARD_TIMEOUT: Duration = Duration::from_secs(20);

/// A standby asks this often whether the active daemon is gone.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);
/// After the database was away, a standby lets the active daemon go first; that one asks every second.
const PRECEDENCE: Duration = Duration::from_secs(4);

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(long, default_value = "drover.toml")]
    pub config: PathBuf,
    /// Another address to listen on than the configuration's.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Listen beyond loopback without TLS and without a proxy: tokens cross the network in the clear.
    #[arg(long)]
    pub insecure_listen: bool,
    /// Another data directory than the configuration's.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Another database than the configuration's: postgres://USER@HOST/NAME.
    #[arg(long, env = "DROVER_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// The form of the daemon's own log lines on standard error.
    #[arg(long, value_enum, default_value_t)]
    pub log: LogForm,
    /// Stop when standard input closes: for a daemon that is to end with its owner.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// The form of the daemon's own log lines.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub enum LogForm {
    /// For people.
    #[default]
    Text,
    /// An object a line, with the deployment as `span`.
    Json,
}

/// Runs until SIGTERM or SIGINT. Once it serves it prints `{"ready": {"url": …, "token_file": …}}`; while another daemon
/// is active on the same PostgreSQL database it is standby, and prints `{"standby": {"url": …, "active": …}}` first.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let mut config = config::load(&args.config)?;
    if let Some(listen) = args.listen {
        config.server.listen = listen;
        let exposed = config.server.exposed().filter(|_| !args.insecure_listen);
        anyhow::ensure!(exposed.is_none(), "--listen: {}", exposed.unwrap_or_default());
    } else if !args.insecure_listen {
        config::check_exposure(&args.config, &config)?;
    }
    let tls = match &config.server.tls {
        Some(files) => Some(web::tls(&files.certificate, &files.key)?),
        None => None,
    };
    if let Some(data) = args.data {
        config.server.data = data;
    }
    let data = config.server.data.clone();
    private::keep_private(&data)?;
    private::allow_many_files();
    let database = database(args.database.as_deref(), &config.server, &data)?;
    let listener = web::bind(config.server.listen).await?;
    let port = listener.local_addr()?.port();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    let acceptor = Acceptor { listener: Arc::new(listener), tls };
    let stop = CancellationToken::new();
    let claim = match database.claim().await? {
        Claimed::Ours(claim) => claim,
        Claimed::Theirs(who) => {
            let until = wait_for_end(&stop, args.until_stdin_closes);
            tokio::select! {
                claim = stand_by(&database, who, &acceptor, &url) => claim,
                end = until => return end.map(|()| 0),
            }
        }
    };
    let store = Arc::new(Store::open(database, claim).await?);
    let token_file = data.join("admin-token");
    if web::first_token(&store, &token_file)
        .await
        .with_context(|| format!("writing {}", token_file.display()))?
    {
        info!("made the first token: {}", token_file.display());
    }
    let secrets = Secrets::new(&store.value_or_insert("secret", Secrets::fresh).await?);
    let public_url: Option<Arc<str>> = config.server.public_url.as_ref().map(|url| {
        let url = url.trim_end_matches('/');
        url.strip_suffix(":0").map_or_else(|| url.to_owned(), |host| format!("{host}:{port}")).into()
    });
    let trusted_proxies = config.server.trusted_proxies.clone().into();
    let webhook_secret = config.github.webhook_secret().map(Into::into);
    let logs = Arc::new(Logs::new(Arc::clone(&store), config.server.attempt_log_bytes()));
    let fleet = Fleet::connect(&config.aws).await;
    let engine = Engine::new(Parts {
        artifacts: Artifacts::connect(&config.aws, fleet.credentials(), fleet.region())?,
        fleet,
        github: Repositories::connect(&config.github)?,
        public_url: public_url.as_deref().map(str::to_owned),
        store: Arc::clone(&store),
        logs: Arc::clone(&logs),
        secrets: secrets.clone(),
        stop: stop.clone(),
        config,
    });
    let web = Web {
        store: Arc::clone(&store),
        logs,
        engine: Arc::clone(&engine),
        secrets,
        webhook_secret,
        failures: Arc::default(),
        strangers: Strangers::default(),
        downloads: Arc::new(Semaphore::new(web::DOWNLOADS)),
        trusted_proxies,
        secure: acceptor.tls.is_some() || public_url.as_ref().is_some_and(|url| url.starts_with("https://")),
        public_url,
        stop: stop.clone(),
    };
    let engine = tokio::spawn(engine.run());
    let web = tokio::spawn(acceptor.serve(web));
    println!("{}", serde_json::json!({ "ready": { "url": url, "token_file": token_file } }));
    info!(url, epoch = store.epoch(), "serving");
    let deposed = tokio::select! {
        end = wait_for_end(&stop, args.until_stdin_closes) => {
            end?;
            stop.is_cancelled().then(|| StoreError::Stale { ours: store.epoch() })
        }
        stale = store.keep_claim() => Some(stale),
    };
    info!("stopping: what is under way goes on when a daemon is back");
    stop.cancel();
    let graceful = async {
        let _ = engine.await;
        let _ = web.await;
        info!(transactions = store.transactions().await, "everything is written down");
        store.close().await;
    };
    if tokio::time::timeout(HARD_TIMEOUT, graceful).await.is_err() {
        tracing::warn!("not everything ended within {} s: stopping all the same", HARD_TIMEOUT.as_secs());
    }
    // Not a success: whatever starts the daemon is to start it again, as standby.
    deposed.map_or(Ok(0), |stale| Err(stale.into()))
}

/// The database: that of this URL, or of the configuration's, or else the file in the data directory.
pub(super) fn database(
    given: Option<&str>,
    server: &config::Server,
    data: &Path,
) -> anyhow::Result<Database> {
    match given.or(server.database.as_deref()) {
        Some(url) => Database::server(url).map_err(|why| anyhow::anyhow!("server.database: {why}")),
        None => Ok(Database::File(data.join("drover.db"))),
    }
}

/// Waits until the active daemon is gone, refusing everything meanwhile.
async fn stand_by(database: &Database, who: String, acceptor: &Acceptor, url: &str) -> Claim {
    println!("{}", serde_json::json!({ "standby": { "url": url, "active": who } }));
    info!("standby: {who}");
    let (say, active) = watch::channel(who);
    let stop = CancellationToken::new();
    tokio::spawn(acceptor.clone().stand_by(Standby { active }, stop.clone()));
    loop {
        tokio::time::sleep(STANDBY_INTERVAL).await;
        match database.claim().await {
            Ok(Claimed::Ours(claim)) => {
                info!("taking over");
                stop.cancel();
                return claim;
            }
            Ok(Claimed::Theirs(who)) => say.send_if_modified(|said| {
                let changed = *said != who;
                if changed {
                    info!("still standby: {who}");
                    *said = who;
                }
                changed
            }),
            Err(error) => {
                warn!("standby: {error}");
                let _ = say.send(error.to_string());
                // The active daemon, if it is still there, gets the lock back first.
                tokio::time::sleep(PRECEDENCE).await;
                true
            }
        };
    }
}

/// SIGTERM, SIGINT, the owner's end, or the engine's own request to stop.
async fn wait_for_end(stop: &CancellationToken, until_stdin_closes: bool) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
        () = super::stdin_closed(until_stdin_closes) => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}
