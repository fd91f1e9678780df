//! `/api/v1/quarantine`: the instances that failed and are kept out of the balancer.

use super::serve::{Handlers, serve};
use crate::{
    api::{QuarantineAnswer, QuarantineList, QuarantineVerb, routes},
    web::{access::Caller, context::Web, path::Name, reply::Refusal},
};

/// The handlers of these routes.
pub fn handlers(web: &Web) -> Handlers {
    let mut handlers = vec![serve(web, routes::LIST_QUARANTINE, list)];
    handlers.extend(QuarantineVerb::ALL.map(|verb| {
        let perform = move |web, caller, instance, ()| perform_verb(web, caller, instance, verb);
        serve(web, routes::of_quarantined(verb), perform)
    }));
    handlers
}

async fn list(web: Web, _: Caller, (): (), (): ()) -> Result<QuarantineList, Refusal> {
    Ok(QuarantineList { instances: web.engine.quarantined().await? })
}

async fn perform_verb(
    web: Web,
    caller: Caller,
    instance: Name,
    verb: QuarantineVerb,
) -> Result<QuarantineAnswer, Refusal> {
    let (message, deployment) = web.engine.of_quarantined(&instance.0, verb, &caller.name).await?;
    Ok(QuarantineAnswer { message, deployment })
}
