-- The lines of one instance, newest first or on from a number.
CREATE INDEX chunks_by_instance ON chunks (deployment, instance, first_seq);

-- What isn't over yet, which is asked for all the time; the newest of a group; a revision's.
CREATE INDEX deployments_unfinished ON deployments (finished_at);
CREATE INDEX deployments_by_group ON deployments (group_name, id);
CREATE INDEX deployments_by_sha ON deployments (sha, id);

-- The runner's text (packed), once for all scripts that hold it; scripts are kept without it.
CREATE TABLE runners (
    name TEXT PRIMARY KEY,
    packed TEXT NOT NULL
);

-- Bytes of its lines in the store, and when they were removed because of their age or size.
ALTER TABLE deployments ADD COLUMN log_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployments ADD COLUMN pruned_at BIGINT;
UPDATE deployments SET log_bytes = COALESCE((SELECT SUM(LENGTH(payload)) FROM chunks WHERE deployment = deployments.id), 0);
