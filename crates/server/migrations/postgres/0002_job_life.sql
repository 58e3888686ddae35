-- Why a dead job is dead: cancelled, quarantined, or NULL if its budgets are spent.
ALTER TABLE jobs ADD COLUMN cause TEXT CHECK (cause IN ('cancelled', 'quarantined'));
-- The last client that fell silent on it.
ALTER TABLE jobs ADD COLUMN lost_to BYTEA;
-- Ready jobs are served by `due`, which is `created_at` shifted by the priority.
ALTER TABLE jobs ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN due BIGINT NOT NULL DEFAULT 0;
UPDATE jobs SET due = created_at;
CREATE INDEX jobs_due ON jobs (due, seq) WHERE state = 'ready';

-- Rejected proofs since the last accepted one.
ALTER TABLE clients ADD COLUMN rejected_in_a_row BIGINT NOT NULL DEFAULT 0;
-- 1 until an operator releases it.
ALTER TABLE clients ADD COLUMN quarantined BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN draining BIGINT NOT NULL DEFAULT 0;
