-- How the job is lent. 0: whole. 1: it is to be divided into parts, and nobody gets it before. 2: its parts are lent instead.
ALTER TABLE jobs ADD COLUMN split INTEGER NOT NULL DEFAULT 0;
-- Of a job of the kind 'part': whose proof it is a part of, and which.
ALTER TABLE jobs ADD COLUMN parent BLOB;
ALTER TABLE jobs ADD COLUMN part_plan BLOB; -- SHA-256 of the plan that divides the run
ALTER TABLE jobs ADD COLUMN work TEXT CHECK (work IN ('segments', 'keccak', 'join', 'unite', 'finish'));
ALTER TABLE jobs ADD COLUMN part_first INTEGER;
ALTER TABLE jobs ADD COLUMN part_end INTEGER;

-- Jobs that are proven in parts, and the plan of their runs.
CREATE TABLE splits (
    job         BLOB    NOT NULL PRIMARY KEY REFERENCES jobs (id),
    plan        BLOB    NOT NULL, -- SHA-256 of the encoded plan
    plan_len    INTEGER NOT NULL,
    segment_po2 INTEGER NOT NULL,
    segments    INTEGER NOT NULL,
    keccak      INTEGER NOT NULL, -- batches of keccak permutations
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX splits_plan ON splits (plan);

CREATE INDEX jobs_parts ON jobs (parent, seq) WHERE parent IS NOT NULL;
CREATE INDEX jobs_split ON jobs (split, due, seq) WHERE split <> 0 AND state <> 'proved';
CREATE INDEX jobs_next_kind ON jobs (system, program_id, kind, due, seq) WHERE state = 'ready' AND superseded = 0;
DROP INDEX jobs_next;

-- A batch is unproved as long as a proof of it is, whatever becomes of parts.
DROP TRIGGER jobs_added;
DROP TRIGGER jobs_changed;
DROP TRIGGER jobs_removed;
CREATE TRIGGER jobs_added AFTER INSERT ON jobs BEGIN
    INSERT INTO job_counts (slot, system, program_id, kind, state, superseded, jobs)
        VALUES (0, NEW.system, NEW.program_id, NEW.kind, NEW.state, NEW.superseded, 1)
        ON CONFLICT (slot, system, program_id, kind, state, superseded) DO UPDATE SET jobs = jobs + 1;
    INSERT INTO unproved (batch, first) SELECT id, first FROM batches
        WHERE id = NEW.batch AND NEW.state <> 'proved' AND NEW.parent IS NULL
        ON CONFLICT (batch) DO NOTHING;
END;
CREATE TRIGGER jobs_changed AFTER UPDATE OF state, superseded ON jobs
    WHEN OLD.state <> NEW.state OR OLD.superseded <> NEW.superseded BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE slot = 0 AND system = OLD.system AND program_id = OLD.program_id
        AND kind = OLD.kind AND state = OLD.state AND superseded = OLD.superseded;
    INSERT INTO job_counts (slot, system, program_id, kind, state, superseded, jobs)
        VALUES (0, NEW.system, NEW.program_id, NEW.kind, NEW.state, NEW.superseded, 1)
        ON CONFLICT (slot, system, program_id, kind, state, superseded) DO UPDATE SET jobs = jobs + 1;
    INSERT INTO unproved (batch, first) SELECT id, first FROM batches
        WHERE id = NEW.batch AND NEW.state <> 'proved' AND NEW.parent IS NULL
        ON CONFLICT (batch) DO NOTHING;
    DELETE FROM unproved WHERE batch = NEW.batch AND NEW.state = 'proved' AND NEW.parent IS NULL
        AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch = NEW.batch AND state <> 'proved' AND parent IS NULL);
END;
CREATE TRIGGER jobs_removed AFTER DELETE ON jobs BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE slot = 0 AND system = OLD.system AND program_id = OLD.program_id
        AND kind = OLD.kind AND state = OLD.state AND superseded = OLD.superseded;
    DELETE FROM unproved WHERE batch = OLD.batch
        AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch = OLD.batch AND state <> 'proved' AND parent IS NULL);
END;
