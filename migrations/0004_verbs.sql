-- What people ask of a deployment: resumed_at, failures before it no longer count; approved, 0 or 1; rolls_back and
-- rolled_back_by name the other deployment; only_instance, a retry of one; automatic, 1 where nobody submitted it.
ALTER TABLE deployments ADD COLUMN resumed_at BIGINT;
ALTER TABLE deployments ADD COLUMN approved BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN rolls_back BIGINT;
ALTER TABLE deployments ADD COLUMN rolled_back_by BIGINT;
ALTER TABLE deployments ADD COLUMN only_instance TEXT;
ALTER TABLE deployments ADD COLUMN automatic BIGINT NOT NULL DEFAULT 0;

-- A locked group's deployments wait in the queue.
CREATE TABLE locks (
    group_name TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    locked_by TEXT NOT NULL,
    since BIGINT NOT NULL,
    until_at BIGINT
);

-- launch: 1 where it is for the one instance (only_instance) that launches.
ALTER TABLE deployments ADD COLUMN launch BIGINT NOT NULL DEFAULT 0;

-- When an attempt's outcome was known: how long hooks take is estimated from it.
ALTER TABLE attempts ADD COLUMN ended_at BIGINT;

-- What a person wants of a quarantined instance: release or terminate; and who.
ALTER TABLE quarantines ADD COLUMN wish TEXT;
ALTER TABLE quarantines ADD COLUMN wished_by TEXT;
