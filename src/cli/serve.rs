//! `drover serve`: the daemon.

use crate::{
    config,
    engine::{Engine, Parts, Secrets},
    fleet::Fleet,
    github::Repositories,
    logs::Logs,
    store::Store,
    web::{self, Web},
};
use anyhow::Context as _;
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// After the signal to stop, the daemon is gone at the latest after this.
const HARD_TIMEOUT: Duration = Duration::from_secs(20);

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
    /// Stop when standard input closes: for a daemon that is to end with its owner.
    #[arg(long)]
    pub until_stdin_closes: bool,
}

/// Runs until SIGTERM or SIGINT. The first line on standard output, once it serves, is
/// `{"ready": {"url": …, "token_file": …}}`.
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
    std::fs::create_dir_all(&data)
        .with_context(|| format!("making the data directory {}", data.display()))?;
    let store = Arc::new(Store::open(&data.join("drover.db")).await?);
    let token_file = data.join("admin-token");
    if web::first_token(&store, &token_file)
        .await
        .with_context(|| format!("writing {}", token_file.display()))?
    {
        info!("made the first token: {}", token_file.display());
    }
    let secrets = Secrets::new(&store.remembered("secret", Secrets::fresh).await?);
    let listener = web::bind(config.server.listen).await?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr()?);
    let port = listener.local_addr()?.port();
    let public_url: Option<Arc<str>> = config.server.public_url.as_ref().map(|url| {
        let url = url.trim_end_matches('/');
        url.strip_suffix(":0").map_or_else(|| url.to_owned(), |host| format!("{host}:{port}")).into()
    });
    let trusted_proxies = config.server.trusted_proxies.clone().into();
    let stop = CancellationToken::new();
    let webhook_secret = config.github.webhook_secret().map(Into::into);
    let logs = Arc::new(Logs::new(Arc::clone(&store)));
    let engine = Engine::new(Parts {
        fleet: Fleet::connect(&config.aws).await,
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
        trusted_proxies,
        secure: tls.is_some() || public_url.as_ref().is_some_and(|url| url.starts_with("https://")),
        public_url,
        stop: stop.clone(),
    };
    let engine = tokio::spawn(engine.run());
    let web = tokio::spawn(web.serve(listener, tls));
    println!("{}", serde_json::json!({ "ready": { "url": url, "token_file": token_file } }));
    info!(url, epoch = store.epoch(), "serving");
    wait_for_end(&stop, args.until_stdin_closes).await?;
    info!("stopping: what is under way goes on when the daemon is back");
    stop.cancel();
    let graceful = async {
        let _ = engine.await;
        let _ = web.await;
        store.close().await;
    };
    if tokio::time::timeout(HARD_TIMEOUT, graceful).await.is_err() {
        tracing::warn!("not everything ended within {} s: stopping all the same", HARD_TIMEOUT.as_secs());
    }
    Ok(0)
}

/// SIGTERM, SIGINT, the owner's end, or the engine's own wish to stop.
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
