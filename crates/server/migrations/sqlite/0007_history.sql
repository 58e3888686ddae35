-- The oldest schema whose servers may use the database as it is. One row.
CREATE TABLE compatibility (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    oldest INTEGER NOT NULL
) STRICT;
INSERT INTO compatibility (one, oldest) VALUES (1, 6);

-- How many jobs there are of each kind and state: the sum over the slots, of which SQLite needs one.
CREATE TABLE job_counts (
    slot       INTEGER NOT NULL,
    system     TEXT    NOT NULL,
    program_id BLOB    NOT NULL,
    kind       TEXT    NOT NULL,
    state      TEXT    NOT NULL,
    superseded INTEGER NOT NULL,
    jobs       INTEGER NOT NULL,
    PRIMARY KEY (slot, system, program_id, kind, state, superseded)
) STRICT, WITHOUT ROWID;
INSERT INTO job_counts (slot, system, program_id, kind, state, superseded, jobs)
    SELECT 0, system, program_id, kind, state, superseded, count(*) FROM jobs GROUP BY system, program_id, kind, state, superseded;

-- Batches with a job that is not proved.
CREATE TABLE unproved (
    batch INTEGER PRIMARY KEY,
    first INTEGER NOT NULL -- its first block
) STRICT;
INSERT INTO unproved (batch, first) SELECT id, first FROM batches WHERE id IN (SELECT batch FROM jobs WHERE state <> 'proved');
CREATE INDEX unproved_first ON unproved (first);

CREATE TRIGGER jobs_added AFTER INSERT ON jobs BEGIN
    INSERT INTO job_counts (slot, system, program_id, kind, state, superseded, jobs)
        VALUES (0, NEW.system, NEW.program_id, NEW.kind, NEW.state, NEW.superseded, 1)
        ON CONFLICT (slot, system, program_id, kind, state, superseded) DO UPDATE SET jobs = jobs + 1;
    INSERT INTO unproved (batch, first) SELECT id, first FROM batches WHERE id = NEW.batch AND NEW.state <> 'proved'
        ON CONFLICT (batch) DO NOTHING;
END;
CREATE TRIGGER jobs_changed AFTER UPDATE OF state, superseded ON jobs
    WHEN OLD.state <> NEW.state OR OLD.superseded <> NEW.superseded BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE slot = 0 AND system = OLD.system AND program_id = OLD.program_id
        AND kind = OLD.kind AND state = OLD.state AND superseded = OLD.superseded;
    INSERT INTO job_counts (slot, system, program_id, kind, state, superseded, jobs)
        VALUES (0, NEW.system, NEW.program_id, NEW.kind, NEW.state, NEW.superseded, 1)
        ON CONFLICT (slot, system, program_id, kind, state, superseded) DO UPDATE SET jobs = jobs + 1;
    INSERT INTO unproved (batch, first) SELECT id, first FROM batches WHERE id = NEW.batch AND NEW.state <> 'proved'
        ON CONFLICT (batch) DO NOTHING;
    DELETE FROM unproved WHERE batch = NEW.batch AND NEW.state = 'proved'
        AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch = NEW.batch AND state <> 'proved');
END;
CREATE TRIGGER jobs_removed AFTER DELETE ON jobs BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE slot = 0 AND system = OLD.system AND program_id = OLD.program_id
        AND kind = OLD.kind AND state = OLD.state AND superseded = OLD.superseded;
    DELETE FROM unproved WHERE batch = OLD.batch
        AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch = OLD.batch AND state <> 'proved');
END;

CREATE INDEX jobs_listed ON jobs (superseded, state, seq);
CREATE INDEX jobs_unproved ON jobs (state, system, program_id, kind, seq) WHERE state <> 'proved' AND superseded = 0;
CREATE INDEX jobs_next ON jobs (system, program_id, due, seq) WHERE state = 'ready' AND superseded = 0;
CREATE INDEX jobs_resting ON jobs (not_before) WHERE state = 'ready';
CREATE INDEX jobs_proof ON jobs (proof) WHERE proof IS NOT NULL;
CREATE INDEX jobs_lease ON jobs (lease) WHERE lease IS NOT NULL;
CREATE INDEX jobs_superseded ON jobs (seq) WHERE superseded = 1;
CREATE INDEX jobs_troubled ON jobs (seq) WHERE last_error IS NOT NULL OR lost > 0 OR state = 'dead';
DROP INDEX jobs_open;
DROP INDEX jobs_due;
-- Who failed on a job, each once, and who fell silent on it last: tokens, or clients without one. NULL from servers of the version before.
ALTER TABLE jobs ADD COLUMN failed_by BLOB;
ALTER TABLE jobs ADD COLUMN lost_by BLOB;
CREATE INDEX batches_input ON batches (input);
CREATE INDEX batches_length ON batches ((last - first));
CREATE INDEX batches_superseded ON batches (superseded_at) WHERE superseded_at IS NOT NULL;
-- The token under which it was granted, or its client where none is asked for. NULL from servers of the version before.
ALTER TABLE leases ADD COLUMN party BLOB;
CREATE INDEX leases_live ON leases (party) WHERE ended_at IS NULL;
CREATE INDEX leases_job ON leases (job, granted_at);
CREATE INDEX leases_client ON leases (client);
CREATE INDEX submissions_open_proof ON submissions (proof) WHERE verdict IS NULL;
CREATE INDEX clients_heard ON clients (last_seen, id);
CREATE INDEX clients_resting ON clients (rests_until);
CREATE INDEX clients_quarantined ON clients (id) WHERE quarantined <> 0;

-- What clients call themselves.
ALTER TABLE clients ADD COLUMN name TEXT;

-- How clients that have proved nothing yet behave under a token.
CREATE TABLE parties (
    id        BLOB NOT NULL PRIMARY KEY,
    strikes   INTEGER NOT NULL, -- leases of theirs that ended badly, since a proof was accepted
    struck_at INTEGER NOT NULL
) STRICT;

-- What operators decided, and what the server removed by itself.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    actor   TEXT    NOT NULL, -- the token's id and name, or who else it was
    deed    TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    detail  TEXT
) STRICT;

-- What holds for all servers of the database: draining.
CREATE TABLE switches (
    name  TEXT    NOT NULL PRIMARY KEY,
    since INTEGER NOT NULL -- it is on
) STRICT;

-- How far consumers have taken the proofs.
CREATE TABLE deliveries (
    consumer TEXT    NOT NULL PRIMARY KEY,
    through  INTEGER NOT NULL, -- the last block
    at       INTEGER NOT NULL
) STRICT;
