-- Goes up with each change that a person makes to a deployment, or to the record of one of its instances, and with each
-- change of its state: whoever keeps a copy of it knows then that it is out of date.
ALTER TABLE deployments ADD COLUMN version BIGINT NOT NULL DEFAULT 0;

-- Attempts of a deployment, from a number on.
DROP INDEX attempts_by_deployment;
CREATE INDEX attempts_by_deployment ON attempts (deployment, number);
