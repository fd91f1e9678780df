-- What a deployment was planned with, as JSON: its Auto Scaling groups and target groups, the application's environment.
-- The configuration may say something else after a restart.
ALTER TABLE deployments ADD COLUMN planned TEXT;

-- When a person first asked to cancel it.
ALTER TABLE deployments ADD COLUMN cancelled_at BIGINT;
