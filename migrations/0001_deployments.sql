-- TEXT, BIGINT and BLOB only: what sqlx's Any driver carries on SQLite and PostgreSQL alike.
-- Times are milliseconds since 1970-01-01 UTC; booleans are 0 or 1.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE deployments (
    id BIGINT PRIMARY KEY,
    group_name TEXT NOT NULL,
    repository TEXT NOT NULL,
    sha TEXT NOT NULL,
    requested TEXT NOT NULL,
    message TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    policy TEXT NOT NULL,
    revision TEXT,
    bundle_sha256 TEXT,
    batch BIGINT NOT NULL DEFAULT 0,
    batch_done_at BIGINT,
    healthy_at_start BIGINT NOT NULL DEFAULT 0,
    total_at_start BIGINT NOT NULL DEFAULT 0,
    cancel TEXT,
    settled BIGINT NOT NULL DEFAULT 0,
    last_seq BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    since BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX deployments_by_state ON deployments (state);

-- record: the planner's own record of the instance, as JSON.
CREATE TABLE instances (
    deployment BIGINT NOT NULL,
    instance TEXT NOT NULL,
    state TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (deployment, instance)
);

-- One SendCommand. Its id is the command's Comment; its script is kept, so that exactly the same can be sent again.
CREATE TABLE dispatches (
    id TEXT PRIMARY KEY,
    deployment BIGINT NOT NULL,
    kind TEXT NOT NULL,
    script TEXT NOT NULL,
    state TEXT NOT NULL,
    command_id TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX dispatches_by_deployment ON dispatches (deployment, state);

-- One instance's row of a dispatch. The number is the host's guard against running twice.
CREATE TABLE attempts (
    number BIGINT PRIMARY KEY,
    deployment BIGINT NOT NULL,
    instance TEXT NOT NULL,
    dispatch TEXT NOT NULL,
    first_event TEXT NOT NULL,
    outcome TEXT,
    log_bytes BIGINT NOT NULL DEFAULT 0,
    log_complete BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);
CREATE INDEX attempts_by_deployment ON attempts (deployment);

-- Every effect on the world, written before it is had.
CREATE TABLE intents (
    id BIGINT PRIMARY KEY,
    deployment BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    action TEXT NOT NULL,
    effect_key TEXT NOT NULL,
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX intents_by_deployment ON intents (deployment, effect_key);

-- What we changed on an Auto Scaling group and must put back. Belongs to the group, not to a deployment.
CREATE TABLE holds (
    auto_scaling_group TEXT PRIMARY KEY,
    hold TEXT NOT NULL
);

CREATE TABLE quarantines (
    auto_scaling_group TEXT NOT NULL,
    instance TEXT NOT NULL,
    deployment BIGINT NOT NULL,
    reason TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (auto_scaling_group, instance)
);

-- The last good revision of each instance: validated and healthy behind the balancer.
CREATE TABLE revisions (
    group_name TEXT NOT NULL,
    instance TEXT NOT NULL,
    sha TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (group_name, instance)
);

-- Log lines in chunks: `lines` lines of one instance, event and attempt, numbered from first_seq; payload is their
-- bytes, each line ended by a newline.
CREATE TABLE chunks (
    deployment BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    lines BIGINT NOT NULL,
    at BIGINT NOT NULL,
    instance TEXT,
    event TEXT,
    attempt BIGINT,
    source TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (deployment, first_seq)
);

CREATE TABLE tokens (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
