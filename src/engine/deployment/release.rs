//! What a command carries: where its hosts get the release from, which hooks run, with what environment.

use super::Deployment;
use crate::{
    config::Place,
    engine::{
        record,
        revisions::{Bundle, Origin},
    },
    revision::{
        appspec::AppSpec,
        bundle::{Form, Packed},
        script::{Former, Kind as Job, Row, Spec, render},
    },
    rollout::event::LifecycleEvent,
    store::DeploymentRow,
};
use jiff::{SignedDuration, Timestamp};

/// A command that has not begun on its host by then is not wanted any more: its attempt counts as lost by that time. For
/// the same script may be sent again while it isn't known whether it was sent, and clocks differ.
const NOT_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Where a host gets the release from.
#[derive(Default)]
pub(super) struct Source {
    pub(super) url: String,
    sha256: String,
    auth: String,
    form: Form,
    packed: Packed,
    /// Where CI put it.
    place: Option<Place>,
    /// See [`Origin::build`].
    build: String,
}

impl Deployment<'_> {
    /// What is known of the bundle of a former release without it.
    pub(super) async fn kept_bundle(
        &self,
        row: &DeploymentRow,
        release: &str,
    ) -> anyhow::Result<Option<Bundle>> {
        let former = self.engine.store.success_of(&row.group_name, release).await?;
        let appspec = self.engine.former_appspec(release).await?;
        let sha256 = former.and_then(|former| former.bundle_sha256);
        Ok(sha256.zip(appspec).map(|(sha256, appspec)| Bundle { sha256, appspec, ..Bundle::default() }))
    }

    /// A good revision that something else had put on the instances: its SHA, its hooks, the digest of its appspec file.
    pub(super) async fn adopted(
        &self,
        row: &DeploymentRow,
        good: &str,
    ) -> anyhow::Result<Option<(String, AppSpec, String)>> {
        let Some(success) = self.engine.store.success_of(&row.group_name, good).await? else {
            return Ok(None);
        };
        let Some(digest) = self.engine.planned(&success)?.adopted else { return Ok(None) };
        Ok(self.engine.former_appspec(good).await?.map(|appspec| (good.to_owned(), appspec, digest)))
    }

    /// Where hosts fetch a release: from this daemon, or where nothing comes in, by a short-lived link of GitHub's or of S3's.
    pub(super) async fn source(
        &self,
        row: &DeploymentRow,
        origin: &Origin,
        release: &str,
        bundle: &Bundle,
    ) -> anyhow::Result<Source> {
        let source = self.packed_source(origin, release, bundle);
        let sha256 = bundle.sha256.clone();
        Ok(match (&self.engine.public_url, &origin.template) {
            (Some(url), _) => Source {
                url: format!("{url}/bundles/v1/{release}"),
                sha256,
                auth: format!("Bearer {}", self.engine.secrets.bundle_token(release, row.id)),
                ..source
            },
            (None, Some(template)) => {
                Source { url: self.engine.artifacts.link(template, release).await?, sha256, ..source }
            }
            // GitHub packs afresh at each request and promises the same content, not the same bytes: no checksum.
            (None, None) => {
                Source { url: self.engine.github.archive_link(&row.repository, release).await?, ..source }
            }
        })
    }

    /// How a release is packed, without where it is had.
    pub(super) fn packed_source(&self, origin: &Origin, release: &str, bundle: &Bundle) -> Source {
        Source {
            form: bundle.form,
            packed: origin.packed(),
            place: origin.template.as_ref().map(|template| template.place(release)),
            build: origin.build(&bundle.sha256),
            ..Source::default()
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn script(
        &self,
        row: &DeploymentRow,
        kind: Job,
        dispatch: &str,
        (sha, source): (&str, &Source),
        events: &[LifecycleEvent],
        (appspec, former): (&AppSpec, Option<Former>),
        rows: Vec<Row>,
    ) -> anyhow::Result<String> {
        let application = row.group_name.split('/').next().unwrap_or_default();
        let (planned, policy) = (self.engine.planned(row)?, record::policy(row)?);
        let mut environment: Vec<(String, String)> = planned.environment.into_iter().collect();
        // As CodeDeploy names what came from S3.
        if let Some(Place::S3 { bucket, key }) = source.place.clone() {
            environment.push(("BUNDLE_BUCKET".into(), bucket));
            environment.push(("BUNDLE_KEY".into(), key));
        }
        let secrets: Vec<(String, String)> = planned.secrets.into_iter().collect();
        Ok(render(&Spec {
            kind,
            application,
            group: &row.group_name,
            deployment: row.id,
            dispatch,
            sha,
            bundle_url: &source.url,
            bundle_sha256: &source.sha256,
            bundle_auth: &source.auth,
            log_url: &self
                .engine
                .public_url
                .as_ref()
                .map(|url| format!("{url}/ingest/v1/attempts"))
                .unwrap_or_default(),
            frames: self.engine.public_url.is_none(),
            keep: planned.keep_releases,
            log_max: self.engine.config.server.attempt_log_bytes(),
            not_after: (Timestamp::now() + NOT_AFTER).as_second(),
            events,
            appspec,
            former,
            build: &source.build,
            form: source.form,
            packed: &source.packed,
            stop: (policy.stop_from, policy.stop_failure),
            environment: &environment,
            secrets: &secrets,
            rows,
        }))
    }
}
