-- How the job is lent. 0: whole. 1: it is to be divided into parts, and nobody gets it before. 2: its parts are lent instead.
ALTER TABLE jobs ADD COLUMN split BIGINT NOT NULL DEFAULT 0;
-- Of a job of the kind 'part': whose proof it is a part of, and which.
ALTER TABLE jobs ADD COLUMN parent BYTEA;
ALTER TABLE jobs ADD COLUMN part_plan BYTEA; -- SHA-256 of the plan that divides the run
ALTER TABLE jobs ADD COLUMN work TEXT CHECK (work IN ('segments', 'keccak', 'join', 'unite', 'finish'));
ALTER TABLE jobs ADD COLUMN part_first BIGINT;
ALTER TABLE jobs ADD COLUMN part_end BIGINT;

DROP INDEX jobs_next;

-- Jobs that are proven in parts, and the plan of their runs.
CREATE TABLE splits (
    job         BYTEA  NOT NULL PRIMARY KEY REFERENCES jobs (id),
    plan        BYTEA  NOT NULL, -- SHA-256 of the encoded plan
    plan_len    BIGINT NOT NULL,
    segment_po2 BIGINT NOT NULL,
    segments    BIGINT NOT NULL,
    keccak      BIGINT NOT NULL, -- batches of keccak permutations
    created_at  BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS splits_plan ON splits (plan);

CREATE INDEX IF NOT EXISTS jobs_parts ON jobs (parent, seq) WHERE parent IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_split ON jobs (split, due, seq) WHERE split <> 0 AND state <> 'proved';
CREATE INDEX IF NOT EXISTS jobs_next_kind ON jobs (system, program_id, kind, due, seq) WHERE state = 'ready' AND superseded = 0;

-- A batch is unproved as long as a proof of it is, whatever becomes of parts.
CREATE OR REPLACE FUNCTION job_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was BOOLEAN := TG_OP <> 'INSERT' AND OLD.state <> 'proved' AND OLD.parent IS NULL;
    is_now BOOLEAN := TG_OP <> 'DELETE' AND NEW.state <> 'proved' AND NEW.parent IS NULL;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO job_counts (slot, system, program_id, kind, state, superseded, jobs)
        VALUES (pg_backend_pid(), OLD.system, OLD.program_id, OLD.kind, OLD.state, OLD.superseded, -1)
        ON CONFLICT (slot, system, program_id, kind, state, superseded) DO UPDATE SET jobs = job_counts.jobs - 1;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO job_counts (slot, system, program_id, kind, state, superseded, jobs)
        VALUES (pg_backend_pid(), NEW.system, NEW.program_id, NEW.kind, NEW.state, NEW.superseded, 1)
        ON CONFLICT (slot, system, program_id, kind, state, superseded) DO UPDATE SET jobs = job_counts.jobs + 1;
    END IF;
    IF is_now AND NOT was THEN
        -- An update, even of nothing, waits for whoever takes the row away.
        INSERT INTO unproved (batch, first) SELECT id, first FROM batches WHERE id = NEW.batch
            ON CONFLICT (batch) DO UPDATE SET first = EXCLUDED.first;
    ELSIF was AND NOT is_now THEN
        -- Looks for other jobs only when whoever adds one has committed.
        PERFORM 1 FROM unproved WHERE batch = OLD.batch FOR UPDATE;
        DELETE FROM unproved WHERE batch = OLD.batch
            AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch = OLD.batch AND state <> 'proved' AND parent IS NULL);
    END IF;
    RETURN NULL;
END $$;
