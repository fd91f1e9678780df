-- What GitHub delivered, by its delivery id and by the digest of its body: neither is taken twice. A push is written
-- down before it is answered, and turned into deployments afterwards.
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    repository TEXT NOT NULL,
    branch TEXT NOT NULL,
    sha TEXT NOT NULL,
    pusher TEXT NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT,
    received_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX deliveries_by_state ON deliveries (state);

-- The head of each polled branch, as last seen.
CREATE TABLE branches (
    repository TEXT NOT NULL,
    branch TEXT NOT NULL,
    sha TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (repository, branch)
);
