//! Bundles that CI built, in S3 or behind HTTPS.
//!
//! An object in S3 is fetched by a presigned link, which hosts get too where they can't reach the daemon: it names one object
//! and ends within the hour. (How S3 signs: docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html.)

mod presign;

use crate::{
    config::{Aws, Place, Template},
    download::{SaveError, save},
};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Response, StatusCode, redirect};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use thiserror::Error;

/// A link is good for so long: a command that is delivered late still finds its bundle.
const LINK_LASTS: Duration = Duration::from_secs(3600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Nothing comes for so long: the download is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// For the whole of a bundle.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// A checksum file holds one line.
const LARGEST_CHECKSUM: usize = 4096;
/// What S3 wants unescaped in a key, which keeps its slashes.
const IN_KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Why there is no bundle.
#[derive(Debug, Error)]
pub enum ArtifactError {
    /// It isn't there (yet), or may not be read.
    #[error("{0}")]
    Missing(String),
    /// It never can be deployed.
    #[error("{0}")]
    Bundle(String),
    /// It may be had another time.
    #[error("{0}")]
    Unavailable(String),
}

/// Where bundles come from that CI built.
pub struct Artifacts {
    /// Follows no redirect: a signature is good for one address.
    s3: Client,
    https: Client,
    credentials: Option<SharedCredentialsProvider>,
    region: String,
    endpoint: Option<String>,
    /// Regions of buckets, as S3 says.
    regions: Mutex<HashMap<String, String>>,
}

impl Artifacts {
    /// With the credentials of the other AWS clients.
    pub fn connect(
        aws: &Aws,
        credentials: Option<SharedCredentialsProvider>,
        region: Option<String>,
    ) -> reqwest::Result<Artifacts> {
        let client = || Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
        Ok(Artifacts {
            s3: client().redirect(redirect::Policy::none()).build()?,
            https: client().redirect(redirect::Policy::custom(stay_private)).build()?,
            credentials,
            region: region.unwrap_or_else(|| "us-east-1".into()),
            endpoint: aws.endpoint.clone(),
            regions: Mutex::default(),
        })
    }

    /// An address from which whoever has it may fetch the bundle of this commit.
    pub async fn link(&self, template: &Template, sha: &str) -> Result<String, ArtifactError> {
        match template.place(sha) {
            Place::S3 { bucket, key } => {
                self.learn_region(&bucket, &key).await?;
                self.presigned(&bucket, &key).await
            }
            Place::Https(address) => Ok(address),
        }
    }

    /// Writes the bundle to `path`, which appears when it is whole.
    pub async fn download(&self, template: &Template, sha: &str, path: &Path) -> Result<(), ArtifactError> {
        let fetch = async {
            match template.place(sha) {
                Place::S3 { bucket, key } => self.download_s3(&bucket, &key, path).await,
                Place::Https(address) => self.download_https(&address, path).await,
            }
        };
        tokio::time::timeout(DOWNLOAD_TIMEOUT, fetch).await.map_err(|_| {
            let seconds = DOWNLOAD_TIMEOUT.as_secs();
            ArtifactError::Unavailable(format!(
                "downloading the bundle of {sha}: not done within {seconds} s"
            ))
        })?
    }

    async fn download_s3(&self, bucket: &str, key: &str, path: &Path) -> Result<(), ArtifactError> {
        let what = format!("s3://{bucket}/{key}");
        self.learn_region(bucket, key).await?;
        let answer = self.get_object(bucket, key, "bytes=0-").await?;
        match answer.status() {
            status if status.is_success() => store(answer.bytes_stream(), path, &what).await,
            StatusCode::NOT_FOUND => Err(ArtifactError::Missing(format!("{what} is not there (yet)"))),
            StatusCode::FORBIDDEN => Err(ArtifactError::Missing(format!(
                "{what} may not be read, or is not there (yet): S3 says which only to who has s3:ListBucket; the daemon needs \
                 s3:GetObject on it ({})",
                code(answer).await
            ))),
            status => Err(ArtifactError::Unavailable(format!(
                "fetching {what}: S3 answered {status} {}",
                code(answer).await
            ))),
        }
    }

    /// Asked in the wrong region, S3 names the right one. Asked once a bucket, for one byte.
    async fn learn_region(&self, bucket: &str, key: &str) -> Result<(), ArtifactError> {
        if self.regions.lock().unwrap_or_else(PoisonError::into_inner).contains_key(bucket) {
            return Ok(());
        }
        let answer = self.get_object(bucket, key, "bytes=0-0").await?;
        let named = answer.headers().get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
        let region = match named {
            Some(named) if !answer.status().is_success() => named.to_owned(),
            _ => self.region.clone(),
        };
        self.regions.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket.to_owned(), region);
        Ok(())
    }

    async fn get_object(&self, bucket: &str, key: &str, range: &str) -> Result<Response, ArtifactError> {
        let link = self.presigned(bucket, key).await?;
        let sent = self.s3.get(link).header("range", range).send().await;
        sent.map_err(|error| unavailable(&format!("s3://{bucket}/{key}"), &error))
    }

    fn region_of(&self, bucket: &str) -> String {
        let regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        regions.get(bucket).unwrap_or(&self.region).clone()
    }

    async fn presigned(&self, bucket: &str, key: &str) -> Result<String, ArtifactError> {
        let failed =
            |why: String| ArtifactError::Unavailable(format!("signing a link to s3://{bucket}/{key}: {why}"));
        let provider =
            self.credentials.as_ref().ok_or_else(|| failed("there are no AWS credentials".into()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| failed(error.to_string()))?;
        let region = self.region_of(bucket);
        let key = utf8_percent_encode(key, IN_KEY);
        // The partition of the Chinese regions has a domain of its own.
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let address = match &self.endpoint {
            Some(endpoint) => format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/')),
            // A dot in a host's name leaves the certificate's wildcard.
            None if bucket.contains('.') => format!("https://s3.{region}.{domain}/{bucket}/{key}"),
            None => format!("https://{bucket}.s3.{region}.{domain}/{key}"),
        };
        presign::link(&address, &region, credentials, LINK_LASTS).map_err(|error| failed(error.to_string()))
    }

    async fn download_https(&self, address: &str, path: &Path) -> Result<(), ArtifactError> {
        let get = async |address: &str| {
            let answer =
                self.https.get(address).send().await.map_err(|error| unavailable(address, &error))?;
            match answer.status() {
                status if status.is_success() => Ok(answer),
                // A store behind it may say of what is missing that it is forbidden.
                status @ (StatusCode::NOT_FOUND
                | StatusCode::GONE
                | StatusCode::FORBIDDEN
                | StatusCode::UNAUTHORIZED) => Err(ArtifactError::Missing(format!(
                    "{address} is not there (yet), or may not be read ({status})"
                ))),
                status => Err(ArtifactError::Unavailable(format!("fetching {address}: {status}"))),
            }
        };
        // CI puts it there last: first the checksum, then what it is of.
        let beside = format!("{address}.sha256");
        let mut answer = get(&beside).await?;
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| unavailable(&beside, &error))? {
            text.extend_from_slice(&piece);
            if text.len() > LARGEST_CHECKSUM {
                return Err(ArtifactError::Bundle(format!("{beside} holds more than a SHA-256")));
            }
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let wanted = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        if wanted.len() != 64 || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ArtifactError::Bundle(format!("{beside} holds no SHA-256, as sha256sum writes it")));
        }
        let mut hasher = Sha256::new();
        let body = get(address).await?.bytes_stream().inspect_ok(|piece| hasher.update(piece));
        store(body, path, address).await?;
        let found = hex::encode(hasher.finalize());
        if found != wanted {
            drop(tokio::fs::remove_file(path).await);
            return Err(ArtifactError::Unavailable(format!(
                "{address} has the checksum {found}, and {beside} says {wanted}"
            )));
        }
        Ok(())
    }
}

/// Follows redirects, but never out of HTTPS: the checksum would prove nothing.
fn stay_private(attempt: redirect::Attempt) -> redirect::Action {
    let leaves = attempt.previous().first().is_some_and(|first| first.scheme() == "https")
        && attempt.url().scheme() != "https";
    match attempt.previous().len() {
        _ if leaves => attempt.error("it leads from https to http"),
        0..10 => attempt.follow(),
        _ => attempt.error("it leads in circles"),
    }
}

async fn store(
    body: impl Stream<Item = reqwest::Result<Bytes>>,
    path: &Path,
    what: &str,
) -> Result<(), ArtifactError> {
    save(body, path).await.map_err(|error| match error {
        SaveError::TooLarge => ArtifactError::Bundle(error.to_string()),
        SaveError::Source(error) => unavailable(what, &error),
        SaveError::Disk(_) => ArtifactError::Unavailable(format!("fetching {what}: {error}")),
    })
}

fn unavailable(what: &str, error: &reqwest::Error) -> ArtifactError {
    use std::error::Error as _;
    let mut words = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        words = error.to_string();
        inner = error.source();
    }
    ArtifactError::Unavailable(format!("fetching {what}: {words}"))
}

/// The code of S3's error, an XML document.
async fn code(answer: Response) -> String {
    let text = answer.text().await.unwrap_or_default();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or("no reason given", |(code, _)| code).to_owned()
}
