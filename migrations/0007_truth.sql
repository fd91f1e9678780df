-- The lines of one instance, newest first or on from a number.
CREATE INDEX chunks_by_instance ON chunks (deployment, instance, first_seq);

-- What isn't over yet, which is asked for all the time; the newest of a group; a revision's.
CREATE INDEX deployments_unfinished ON deployments (finished_at);
CREATE INDEX deployments_by_group ON deployments (group_name, id);
CREATE INDEX deployments_by_sha ON deployments (sha, id);

-- What an instance has had, newest first.
CREATE INDEX attempts_by_instance ON attempts (instance, number);
