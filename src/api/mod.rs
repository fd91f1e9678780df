//! What crosses HTTP: every request and answer of `/api/v1` and of the log streams, errors included, and the one table of
//! all routes. The daemon and the command line both use these types, so that a field has one name and one meaning.
//!
//! Knows nothing of HTTP servers or clients. May import the words of `rollout` (batch sizes, verbs) and nothing else.

pub mod call;
pub mod routes;

mod deployment;
mod error;
mod group;
mod log;
mod quarantine;
mod rehearsal;
mod submission;
mod token;
mod webhook;

pub use call::{Body, Call, Role, Route, Shape};
pub use deployment::{
    CancelRequest, Counts, Deployment, DeploymentList, DeploymentQuery, Failures, Instance, Note, Revision,
    VerbRequest,
};
pub use error::{ErrorAnswer, ErrorDetail};
pub use group::{Act, AdoptRequest, DoneAnswer, Group, GroupList, GroupPolicy, LockAnswer, LockRequest};
pub use log::{LogEnd, LogLine, LogQuery, LogRow};
pub use quarantine::{QuarantineAnswer, QuarantineList, QuarantineVerb, QuarantinedInstance};
pub use rehearsal::{PlacedInstance, Rehearsal, RehearsalBatch, SkippedInstance};
pub use routes::ROUTES;
pub use submission::Submission;
pub use token::{Token, TokenList, TokenMade, TokenRequest, TokenRevoked};
pub use webhook::WebhookAnswer;
