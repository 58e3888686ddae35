-- On a chain with a bridge: the links of the chain of deposits before the first deposit of a batch, or of what is made of several, and after
-- the last.
ALTER TABLE batches ADD COLUMN deposits_start BYTEA;
ALTER TABLE batches ADD COLUMN deposits_end BYTEA;
ALTER TABLE folds ADD COLUMN deposits_start BYTEA;
ALTER TABLE folds ADD COLUMN deposits_end BYTEA;
-- How many segments wait for clients is asked at each lease of a part.
CREATE INDEX jobs_ready_segments ON jobs (parent, part_first, part_end) WHERE state = 'ready' AND superseded = 0 AND work = 'segments';
