//! What drover asks of AWS, in drover's words: Auto Scaling, the load balancer, Systems Manager, CloudWatch Logs.
//!
//! Imports the SDK and [`crate::config`]; no store, no engine, no decisions. Every call waits for its turn within the
//! daemon's share of the account's limits, and has a deadline. The SDK retries reads and idempotent changes; SendCommand
//! is sent once, since it has no idempotency token.

pub mod autoscaling;
pub mod balancer;
pub mod commands;
pub mod launch;
pub mod list;
pub mod logs;
mod pace;

use crate::config::Aws;
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ssm::{
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
};
use pace::Pace;
use std::{error::Error as _, sync::Arc, time::Duration};
use thiserror::Error;

/// One try of a call; AWS's control planes answer within a second or two.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
/// A call with its retries.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// AWS, as drover sees it.
#[derive(Clone, Debug)]
pub struct Fleet {
    autoscaling: aws_sdk_autoscaling::Client,
    elb: aws_sdk_elasticloadbalancingv2::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    ssm: aws_sdk_ssm::Client,
    /// The same without retries.
    ssm_once: aws_sdk_ssm::Client,
    /// What all of them sign with, and for which region.
    shared: SdkConfig,
    pace: Arc<Pace>,
}

/// What became of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// AWS asks for fewer calls: it had no effect.
    Throttled,
    /// Refused: it had no effect, and will have none as it stands.
    Refused,
    /// The answer was lost, or AWS failed inside: it may have had its effect.
    Unknown,
}

/// A call to AWS that failed.
#[derive(Clone, Debug, Error)]
#[error("{action} {}: {message}{}", match kind { Kind::Throttled => "was throttled", Kind::Refused => "was refused", Kind::Unknown => "failed" }, request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default())]
pub struct FleetError {
    /// The AWS action.
    pub action: &'static str,
    /// What became of it.
    pub kind: Kind,
    /// AWS's error code, if it gave one.
    pub code: String,
    /// AWS's words.
    pub message: String,
    /// For AWS's support.
    pub request_id: Option<String>,
}

/// The result of anything here.
pub type Result<T> = std::result::Result<T, FleetError>;

impl Fleet {
    /// Clients for the configured region and endpoint, with the environment's credentials.
    pub async fn connect(aws: &Aws) -> Fleet {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(4))
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(3));
        if let Some(region) = &aws.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &aws.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        let once = aws_sdk_ssm::config::Builder::from(&shared).retry_config(RetryConfig::disabled()).build();
        Fleet {
            autoscaling: aws_sdk_autoscaling::Client::new(&shared),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(&shared),
            logs: aws_sdk_cloudwatchlogs::Client::new(&shared),
            ssm: aws_sdk_ssm::Client::new(&shared),
            ssm_once: aws_sdk_ssm::Client::from_conf(once),
            shared,
            pace: Arc::new(Pace::new(aws.call_budget)),
        }
    }

    /// One request, when its turn has come.
    async fn call<T, E, R>(
        &self,
        action: &'static str,
        request: impl Future<Output = std::result::Result<T, SdkError<E, R>>>,
    ) -> Result<T>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug,
        SdkError<E, R>: RequestId,
    {
        if !self.pace.turn(action).await {
            let message = format!(
                "it was not its turn within {} s: the daemon takes no more than its share of the account's limits \
                 (aws.call_budget)",
                pace::LONGEST_WAIT.as_secs()
            );
            let (kind, code) = (Kind::Throttled, "CallBudget".to_owned());
            return Err(FleetError { action, kind, code, message, request_id: None });
        }
        let answer = request.await.map_err(failed(action));
        if answer.as_ref().is_err_and(|error| error.kind == Kind::Throttled) {
            self.pace.slow_down(action);
        }
        answer
    }

    /// What the clients sign with.
    pub fn credentials(&self) -> Option<SharedCredentialsProvider> {
        self.shared.credentials_provider()
    }

    /// The region, where one is known.
    pub fn region(&self) -> Option<String> {
        self.shared.region().map(ToString::to_string)
    }
}

/// Codes by which the services ask for fewer calls; RateExceeded is Systems Manager's in a command's status.
const THROTTLES: [&str; 6] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "RateExceeded",
];

/// Codes by which a service refuses whoever asks, whatever is asked: credentials that are missing, wrong or expired,
/// permissions, an account that is closed off. From the services' lists of common errors.
const NOT_ALLOWED: [&str; 13] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "NotAuthorized",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

impl FleetError {
    /// In words, without the number of the request: the same for each call that fails alike.
    pub fn words(&self) -> String {
        FleetError { request_id: None, ..self.clone() }.to_string()
    }

    /// Whether AWS refuses drover as such, or is away: nothing that an instance or a group could be blamed for.
    pub fn is_of_the_account(&self) -> bool {
        self.kind != Kind::Refused || NOT_ALLOWED.contains(&self.code.as_str()) || self.code.is_empty()
    }
}

/// Where a list goes on: AWS says so by a token, or by one that is empty.
fn more(token: Option<&str>) -> Option<String> {
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}

/// A request that the SDK would not even build.
fn malformed(action: &'static str, error: &dyn std::error::Error) -> FleetError {
    FleetError {
        action,
        kind: Kind::Refused,
        code: String::new(),
        message: error.to_string(),
        request_id: None,
    }
}

/// The SDK's error in our words.
fn failed<E, R>(action: &'static str) -> impl Fn(SdkError<E, R>) -> FleetError
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
    R: std::fmt::Debug,
    SdkError<E, R>: RequestId,
{
    move |error| {
        let code = error.as_service_error().and_then(|e| e.code()).unwrap_or_default().to_owned();
        let kind = match &error {
            SdkError::ConstructionFailure(_) => Kind::Refused,
            SdkError::ServiceError(_) if THROTTLES.contains(&code.as_str()) => Kind::Throttled,
            SdkError::ServiceError(_)
                if code.is_empty() || code.starts_with("Internal") || code == "ServiceUnavailable" =>
            {
                Kind::Unknown
            }
            SdkError::ServiceError(_) => Kind::Refused,
            _ => Kind::Unknown,
        };
        let message = match error.as_service_error().and_then(|e| e.message()) {
            Some(message) if code.is_empty() => message.to_owned(),
            Some(message) => format!("{code}: {message}"),
            None => {
                let mut words = error.to_string();
                let mut source = error.source();
                while let Some(inner) = source {
                    words = format!("{words}: {inner}");
                    source = inner.source();
                }
                words
            }
        };
        FleetError { action, kind, code, message, request_id: error.request_id().map(str::to_owned) }
    }
}
