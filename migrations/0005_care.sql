-- dirty: 1 from the moment that anything is run on the instance until a revision is validated and healthy there: what it
-- runs is not known to be `sha` then.
ALTER TABLE revisions ADD COLUMN dirty BIGINT NOT NULL DEFAULT 0;

-- Seconds that a dispatch's hooks may take together.
ALTER TABLE dispatches ADD COLUMN seconds BIGINT NOT NULL DEFAULT 0;

CREATE INDEX attempts_by_dispatch ON attempts (dispatch);

-- What people did to a deployment group itself.
CREATE TABLE acts (
    id BIGINT PRIMARY KEY,
    group_name TEXT NOT NULL,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL
);
