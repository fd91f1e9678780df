//! `/api/v1/groups`: deployment groups, their locks and launch hooks.

use super::serve::{Handlers, serve};
use crate::{
    api::{AdoptRequest, DoneAnswer, Group, GroupList, GroupPolicy, LockAnswer, LockRequest, routes},
    web::{access::Caller, context::Web, path::GroupName, reply::Refusal},
};

/// The handlers of these routes.
pub fn handlers(web: &Web) -> Handlers {
    vec![
        serve(web, routes::LIST_GROUPS, list),
        serve(web, routes::LOCK_GROUP, lock),
        serve(web, routes::UNLOCK_GROUP, unlock),
        serve(web, routes::INSTALL_HOOK, install_hook),
        serve(web, routes::REMOVE_HOOK, remove_hook),
        serve(web, routes::RESTORE_GROUP, restore),
        serve(web, routes::ADOPT_GROUP, adopt),
    ]
}

async fn list(web: Web, _: Caller, (): (), (): ()) -> Result<GroupList, Refusal> {
    let unfinished = web.store.unfinished().await?;
    let mut groups = Vec::new();
    for (name, application, group) in web.engine.groups() {
        let good = web.store.good_revisions(&name).await?;
        groups.push(Group {
            repository: application.repository.clone(),
            branch: group.branch(application).to_owned(),
            auto_deploy: group.auto_deploy,
            auto_scaling_groups: group.auto_scaling_groups.clone(),
            revision: web.store.last_good_row(&name).await?.map(|row| row.sha),
            locked: web.engine.locked(&name).await?,
            alarm: web.engine.alarm(&name),
            acts: web.engine.acts(&name).await?,
            instances: (!good.is_empty()).then_some(good.len()),
            policy: GroupPolicy {
                batch: group.policy.batch.to_string(),
                mode: Some(group.policy.mode),
                min_in_service: group.policy.min_in_service,
                max_failed: Some(group.policy.max_failed),
            },
            running: unfinished.iter().find(|row| row.group_name == name).map(|row| row.id),
            name,
        });
    }
    Ok(GroupList { groups })
}

async fn lock(
    web: Web,
    caller: Caller,
    group: GroupName,
    request: LockRequest,
) -> Result<LockAnswer, Refusal> {
    let words = web.engine.lock(&group.0, request, &caller.name).await?;
    Ok(LockAnswer { group: group.0, locked: Some(words) })
}

async fn unlock(web: Web, caller: Caller, group: GroupName, (): ()) -> Result<LockAnswer, Refusal> {
    web.engine.unlock(&group.0, &caller.name).await?;
    Ok(LockAnswer { group: group.0, locked: None })
}

async fn install_hook(web: Web, caller: Caller, group: GroupName, (): ()) -> Result<DoneAnswer, Refusal> {
    Ok(DoneAnswer { done: web.engine.set_hook(&group.0, true, &caller.name).await? })
}

async fn remove_hook(web: Web, caller: Caller, group: GroupName, (): ()) -> Result<DoneAnswer, Refusal> {
    Ok(DoneAnswer { done: web.engine.set_hook(&group.0, false, &caller.name).await? })
}

async fn restore(web: Web, caller: Caller, group: GroupName, (): ()) -> Result<DoneAnswer, Refusal> {
    Ok(DoneAnswer { done: web.engine.restore(&group.0, &caller.name).await? })
}

async fn adopt(
    web: Web,
    caller: Caller,
    group: GroupName,
    request: AdoptRequest,
) -> Result<DoneAnswer, Refusal> {
    Ok(DoneAnswer { done: web.engine.take_over(&group.0, &request.revision, &caller.name).await? })
}
