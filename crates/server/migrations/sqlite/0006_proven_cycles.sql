-- What the proof turned out to cost, if it shows that.
ALTER TABLE jobs ADD COLUMN proven_cycles INTEGER;
CREATE INDEX jobs_proven_cycles ON jobs (seq) WHERE proven_cycles IS NOT NULL;
