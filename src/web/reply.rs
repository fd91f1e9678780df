//! Answers and refusals: the same words in the API as in the terminal.

use crate::{
    api::{ErrorAnswer, ErrorDetail},
    engine::{GroupError, SubmitError},
    github::GitHubError,
    store::StoreError,
};
use http::StatusCode;
use warp::reply::{Reply, Response};

/// A refusal. Its response is an [`ErrorAnswer`] and carries the refusal, so that a browser may be shown it as a page.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The kind of error, for programs.
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into() }
    }

    pub fn unauthorized() -> Refusal {
        let message = "this needs a token: send 'Authorization: Bearer TOKEN' (the command line takes it from DROVER_TOKEN)";
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }
}

impl warp::reject::Reject for Refusal {}

impl Reply for Refusal {
    fn into_response(self) -> Response {
        let body =
            ErrorAnswer { error: ErrorDetail { code: self.code.to_owned(), message: self.message.clone() } };
        let mut response = warp::reply::with_status(warp::reply::json(&body), self.status).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "store", error.to_string())
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        let (status, code) = match &error {
            SubmitError::UnknownGroup { .. } => (StatusCode::NOT_FOUND, "unknown-group"),
            SubmitError::UnknownDeployment(_) => (StatusCode::NOT_FOUND, "unknown-deployment"),
            SubmitError::Revision(GitHubError::Revision(_)) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-revision")
            }
            SubmitError::Revision(GitHubError::Unavailable(_) | GitHubError::Credentials(_)) => {
                (StatusCode::BAD_GATEWAY, "github")
            }
            SubmitError::Policy(_) => (StatusCode::BAD_REQUEST, "invalid-policy"),
            SubmitError::Ended { .. } => (StatusCode::CONFLICT, "ended"),
            SubmitError::Refused { .. } => (StatusCode::CONFLICT, "refused"),
            SubmitError::NotQuarantined(_) => (StatusCode::NOT_FOUND, "not-quarantined"),
            SubmitError::CanNot(_) => (StatusCode::UNPROCESSABLE_ENTITY, "can-not"),
            SubmitError::Passing(_) => (StatusCode::BAD_GATEWAY, "later"),
            SubmitError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store"),
        };
        Refusal::new(status, code, error.to_string())
    }
}

impl From<GroupError> for Refusal {
    fn from(error: GroupError) -> Self {
        let words = error.to_string();
        match error {
            GroupError::Submit(error) => error.into(),
            GroupError::Refused(_) => Refusal::new(StatusCode::CONFLICT, "refused", words),
            GroupError::Aws(_) | GroupError::Passing(_) => {
                Refusal::new(StatusCode::BAD_GATEWAY, "aws", words)
            }
        }
    }
}

/// Whatever no route took.
pub async fn rejected(rejection: warp::Rejection) -> Result<Response, std::convert::Infallible> {
    use warp::reject;
    if let Some(refusal) = rejection.find::<Refusal>() {
        return Ok(Refusal::new(refusal.status, refusal.code, refusal.message.clone()).into_response());
    }
    let refusal = if rejection.find::<reject::InvalidQuery>().is_some() {
        let words = "the parameters after '?' are not understood: 'after' and 'limit' take a whole number; 'follow', 'raw' and 'text' \
                     take true or false";
        Refusal::new(StatusCode::BAD_REQUEST, "invalid-query", words)
    } else if let Some(header) = rejection.find::<reject::InvalidHeader>() {
        let words = format!("the header {} is not readable text", header.name());
        Refusal::new(StatusCode::BAD_REQUEST, "invalid-header", words)
    } else if rejection.is_not_found() {
        Refusal::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here; the API is under /api/v1")
    } else if rejection.find::<reject::MethodNotAllowed>().is_some() {
        Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "this path does not take this method",
        )
    } else {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "invalid-request",
            "the request can't be understood: its path, its query or one of its headers is malformed",
        )
    };
    Ok(refusal.into_response())
}

/// An answer, or a refusal in its place.
pub fn answer<T: Reply>(result: Result<T, Refusal>) -> Response {
    match result {
        Ok(reply) => reply.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}
