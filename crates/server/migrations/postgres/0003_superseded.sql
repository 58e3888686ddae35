-- A reorg takes batches off the chain: when, or NULL for those on it. They are kept, since the chain may come back.
ALTER TABLE batches ADD COLUMN superseded_at BIGINT;
-- 1 if the node calls its last block final: it stays on the chain.
ALTER TABLE batches ADD COLUMN final BIGINT NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX batches_on_chain ON batches (first) WHERE superseded_at IS NULL;
CREATE INDEX batches_not_final ON batches (last) WHERE superseded_at IS NULL AND final = 0;

-- 1 while its batch is off the chain; `state` is then what becomes of the job if that comes back: ready, proved or dead.
ALTER TABLE jobs ADD COLUMN superseded BIGINT NOT NULL DEFAULT 0;
CREATE INDEX jobs_batch ON jobs (batch);
DROP INDEX jobs_due;
CREATE INDEX jobs_due ON jobs (due, seq) WHERE state = 'ready' AND superseded = 0;
-- When the client that has it was last heard on its lease, and how often that was handed out.
ALTER TABLE jobs ADD COLUMN lease_heard BIGINT;
ALTER TABLE jobs ADD COLUMN lease_handed BIGINT;
CREATE INDEX jobs_held ON jobs (lease_client) WHERE state = 'leased';
CREATE INDEX jobs_expiring ON jobs (lease_expires_at) WHERE state = 'leased';
