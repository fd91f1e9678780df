//! The table of all routes, and the calls of the API by name.
//!
//! The daemon lets nothing in that is not in [`ROUTES`]; the command line takes its paths from the same constants.

use super::{
    AdoptRequest, Body, Call, CancelRequest, Deployment, DeploymentList, DeploymentQuery, DoneAnswer,
    GroupList, LockAnswer, LockRequest, LogQuery, LogRow, QuarantineAnswer, QuarantineList, QuarantineVerb,
    Rehearsal, Role, Route, Shape, Submission, TokenList, TokenMade, TokenRequest, TokenRevoked, VerbRequest,
    WebhookAnswer,
};
use crate::rollout::verb::Verb;

/// Lists the newest deployments.
pub const LIST_DEPLOYMENTS: Call<DeploymentQuery, DeploymentList> = Call::query("/api/v1/deployments");
/// Submits a deployment.
pub const SUBMIT: Call<Submission, Deployment> = Call::json("POST", "/api/v1/deployments").creating();
/// Shows a deployment with its instances.
pub const SHOW_DEPLOYMENT: Call<(), Deployment> = Call::bare("GET", "/api/v1/deployments/{}");
/// Cancels a deployment.
pub const CANCEL: Call<CancelRequest, Deployment> = Call::json("POST", "/api/v1/deployments/{}/cancel");
/// Reads a deployment's log, and follows it.
pub const READ_LOG: Call<LogQuery, LogRow> = Call::rows("/api/v1/deployments/{}/logs");
/// Lists the deployment groups.
pub const LIST_GROUPS: Call<(), GroupList> = Call::bare("GET", "/api/v1/groups");
/// Locks a group.
pub const LOCK_GROUP: Call<LockRequest, LockAnswer> = Call::json("PUT", "/api/v1/groups/{}/{}/lock");
/// Unlocks a group.
pub const UNLOCK_GROUP: Call<(), LockAnswer> = Call::bare("DELETE", "/api/v1/groups/{}/{}/lock");
/// Installs a group's launch hook.
pub const INSTALL_HOOK: Call<(), DoneAnswer> = Call::bare("PUT", "/api/v1/groups/{}/{}/hook");
/// Removes a group's launch hook.
pub const REMOVE_HOOK: Call<(), DoneAnswer> = Call::bare("DELETE", "/api/v1/groups/{}/{}/hook");
/// Puts a group back in order from the tags of its Auto Scaling groups.
pub const RESTORE_GROUP: Call<(), DoneAnswer> = Call::bare("POST", "/api/v1/groups/{}/{}/restore");
/// Writes down what a group runs that something else has deployed to.
pub const ADOPT_GROUP: Call<AdoptRequest, DoneAnswer> = Call::json("POST", "/api/v1/groups/{}/{}/adopt");
/// Lists the quarantined instances.
pub const LIST_QUARANTINE: Call<(), QuarantineList> = Call::bare("GET", "/api/v1/quarantine");
/// Rehearses a submission.
pub const REHEARSE: Call<Submission, Rehearsal> = Call::json("POST", "/api/v1/plan");
/// Lists the tokens.
pub const LIST_TOKENS: Call<(), TokenList> = Call::bare("GET", "/api/v1/tokens");
/// Makes a token.
pub const MAKE_TOKEN: Call<TokenRequest, TokenMade> = Call::json("POST", "/api/v1/tokens").creating();
/// Revokes a token.
pub const REVOKE_TOKEN: Call<(), TokenRevoked> = Call::bare("DELETE", "/api/v1/tokens/{}");

/// The call that asks this of a deployment.
pub const fn of_deployment(verb: Verb) -> Call<VerbRequest, Deployment> {
    Call::json(
        "POST",
        match verb {
            Verb::Pause => "/api/v1/deployments/{}/pause",
            Verb::Resume => "/api/v1/deployments/{}/resume",
            Verb::Approve => "/api/v1/deployments/{}/approve",
            Verb::Retry => "/api/v1/deployments/{}/retry",
            Verb::Rollback => "/api/v1/deployments/{}/rollback",
        },
    )
}

/// The call that asks this of a quarantined instance.
pub const fn of_quarantined(verb: QuarantineVerb) -> Call<(), QuarantineAnswer> {
    Call::bare(
        "POST",
        match verb {
            QuarantineVerb::Release => "/api/v1/quarantine/{}/release",
            QuarantineVerb::Retry => "/api/v1/quarantine/{}/retry",
            QuarantineVerb::Terminate => "/api/v1/quarantine/{}/terminate",
        },
    )
}

/// A `GET` of the page.
const fn page(path: &'static str) -> Route {
    Route { method: "GET", path, role: Role::Session, request: Body::Empty, answer: Body::Page }
}

/// A form of the page.
const fn form(path: &'static str) -> Route {
    Route { method: "POST", path, role: Role::Session, request: Body::Form, answer: Body::Page }
}

/// A `GET` for anybody.
const fn public(path: &'static str, answer: Body) -> Route {
    Route { method: "GET", path, role: Role::Public, request: Body::Empty, answer }
}

/// What an instance asks for or sends.
const fn host(method: &'static str, path: &'static str, request: Body, answer: Body) -> Route {
    Route { method, path, role: Role::Host, request, answer }
}

/// All routes that there are.
pub const ROUTES: &[Route] = &[
    public("/healthz", Body::Text),
    public("/readyz", Body::Text),
    public("/assets/{}", Body::Page),
    public("/sign-in", Body::Page),
    Route { role: Role::Public, ..form("/sign-in") },
    form("/sign-out"),
    page("/"),
    page("/live"),
    form("/deployments"),
    page("/deployments/{}"),
    page("/deployments/{}/live"),
    Route { answer: Body::Rows(Shape::of::<LogRow>()), ..page("/deployments/{}/log") },
    form("/deployments/{}/cancel"),
    form("/deployments/{}/pause"),
    form("/deployments/{}/resume"),
    form("/deployments/{}/approve"),
    form("/deployments/{}/retry"),
    form("/deployments/{}/rollback"),
    page("/groups"),
    form("/groups/{}/{}/lock"),
    form("/groups/{}/{}/unlock"),
    form("/quarantine/{}/release"),
    form("/quarantine/{}/retry"),
    form("/quarantine/{}/terminate"),
    form("/plan"),
    LIST_DEPLOYMENTS.route(),
    SUBMIT.route(),
    SHOW_DEPLOYMENT.route(),
    CANCEL.route(),
    of_deployment(Verb::Pause).route(),
    of_deployment(Verb::Resume).route(),
    of_deployment(Verb::Approve).route(),
    of_deployment(Verb::Retry).route(),
    of_deployment(Verb::Rollback).route(),
    READ_LOG.route(),
    LIST_GROUPS.route(),
    LOCK_GROUP.route(),
    UNLOCK_GROUP.route(),
    INSTALL_HOOK.route(),
    REMOVE_HOOK.route(),
    RESTORE_GROUP.route(),
    ADOPT_GROUP.route(),
    LIST_QUARANTINE.route(),
    of_quarantined(QuarantineVerb::Release).route(),
    of_quarantined(QuarantineVerb::Retry).route(),
    of_quarantined(QuarantineVerb::Terminate).route(),
    REHEARSE.route(),
    LIST_TOKENS.route(),
    MAKE_TOKEN.route(),
    REVOKE_TOKEN.route(),
    host("GET", "/bundles/v1/{}", Body::Empty, Body::Bytes),
    host("GET", "/ingest/v1/attempts/{}", Body::Empty, Body::Text),
    host("PUT", "/ingest/v1/attempts/{}", Body::Bytes, Body::Text),
    host("POST", "/ingest/v1/attempts/{}", Body::Bytes, Body::Text),
    host("POST", "/ingest/v1/attempts/{}/end", Body::Text, Body::Text),
    Route {
        method: "POST",
        path: "/webhooks/github",
        role: Role::Signed,
        request: Body::Bytes,
        answer: Body::Json(Shape::of::<WebhookAnswer>()),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_route_stands_twice_in_the_table() {
        for (n, route) in ROUTES.iter().enumerate() {
            let twin = ROUTES[n + 1..].iter().find(|r| (r.method, r.path) == (route.method, route.path));
            assert!(twin.is_none(), "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn every_route_of_the_api_names_what_it_answers() {
        for route in ROUTES.iter().filter(|route| route.path.starts_with("/api/")) {
            let (Body::Json(shape) | Body::Rows(shape)) = route.answer else { panic!("{}", route.path) };
            assert!((shape.name)().starts_with("drover::api::"), "{}", route.path);
            assert_eq!(route.role, Role::Api, "{}", route.path);
        }
    }
}
