-- As migrations/sqlite/0007_history.sql, in PostgreSQL's words. Servers of the version before run on: nothing is taken away from them,
-- and triggers keep what they do not know of.

-- The oldest schema whose servers may use the database as it is. One row.
CREATE TABLE compatibility (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    oldest BIGINT NOT NULL
);
INSERT INTO compatibility (one, oldest) VALUES (1, 6);

-- Nobody changes jobs between the moment they are counted and the moment the triggers count on. The locks in the order in which servers
-- take them: what adds batches begins with those, and everything else with jobs.
LOCK TABLE batches IN SHARE ROW EXCLUSIVE MODE;
LOCK TABLE jobs IN EXCLUSIVE MODE;

-- What takes the strongest locks comes first: if somebody is in the way, little has been done that is done anew.
-- Who failed on a job, each once, and who fell silent on it last: tokens, or clients without one. NULL from servers of the version before.
ALTER TABLE jobs ADD COLUMN failed_by BYTEA;
ALTER TABLE jobs ADD COLUMN lost_by BYTEA;
-- The token under which it was granted, or its client where none is asked for. NULL from servers of the version before.
ALTER TABLE leases ADD COLUMN party BYTEA;
-- What clients call themselves.
ALTER TABLE clients ADD COLUMN name TEXT;
DROP INDEX jobs_open;
DROP INDEX jobs_due;

-- How many jobs there are of each kind and state: the sum over the slots. A connection counts in a slot of its own, so that none waits for
-- another; slot 0 takes over what the others have counted.
CREATE TABLE job_counts (
    slot       BIGINT NOT NULL,
    system     TEXT   NOT NULL,
    program_id BYTEA  NOT NULL,
    kind       TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    superseded BIGINT NOT NULL,
    jobs       BIGINT NOT NULL,
    PRIMARY KEY (slot, system, program_id, kind, state, superseded)
) WITH (fillfactor = 50);
INSERT INTO job_counts (slot, system, program_id, kind, state, superseded, jobs)
    SELECT 0, system, program_id, kind, state, superseded, count(*) FROM jobs GROUP BY system, program_id, kind, state, superseded;

-- Batches with a job that is not proved.
CREATE TABLE unproved (
    batch BIGINT NOT NULL PRIMARY KEY,
    first BIGINT NOT NULL -- its first block
);
INSERT INTO unproved (batch, first) SELECT id, first FROM batches WHERE id IN (SELECT batch FROM jobs WHERE state <> 'proved');
CREATE INDEX IF NOT EXISTS unproved_first ON unproved (first);

CREATE FUNCTION job_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was BOOLEAN := TG_OP <> 'INSERT' AND OLD.state <> 'proved';
    is_now BOOLEAN := TG_OP <> 'DELETE' AND NEW.state <> 'proved';
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
            AND NOT EXISTS (SELECT 1 FROM jobs WHERE batch = OLD.batch AND state <> 'proved');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_added AFTER INSERT OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION job_changed();
CREATE TRIGGER jobs_changed AFTER UPDATE OF state, superseded ON jobs FOR EACH ROW
    WHEN (OLD.state <> NEW.state OR OLD.superseded <> NEW.superseded) EXECUTE FUNCTION job_changed();

-- `l2-prover migrate` has made those on tables that are there already, while others wrote.
CREATE INDEX IF NOT EXISTS jobs_listed ON jobs (superseded, state, seq);
CREATE INDEX IF NOT EXISTS jobs_unproved ON jobs (state, system, program_id, kind, seq) WHERE state <> 'proved' AND superseded = 0;
CREATE INDEX IF NOT EXISTS jobs_next ON jobs (system, program_id, due, seq) WHERE state = 'ready' AND superseded = 0;
CREATE INDEX IF NOT EXISTS jobs_resting ON jobs (not_before) WHERE state = 'ready';
CREATE INDEX IF NOT EXISTS jobs_proof ON jobs (proof) WHERE proof IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_lease ON jobs (lease) WHERE lease IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_superseded ON jobs (seq) WHERE superseded = 1;
CREATE INDEX IF NOT EXISTS jobs_troubled ON jobs (seq) WHERE last_error IS NOT NULL OR lost > 0 OR state = 'dead';
CREATE INDEX IF NOT EXISTS batches_input ON batches (input);
CREATE INDEX IF NOT EXISTS batches_length ON batches ((last - first));
CREATE INDEX IF NOT EXISTS batches_superseded ON batches (superseded_at) WHERE superseded_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS leases_live ON leases (party) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS leases_job ON leases (job, granted_at);
CREATE INDEX IF NOT EXISTS leases_client ON leases (client);
CREATE INDEX IF NOT EXISTS submissions_open_proof ON submissions (proof) WHERE verdict IS NULL;
CREATE INDEX IF NOT EXISTS clients_heard ON clients (last_seen, id);
CREATE INDEX IF NOT EXISTS clients_resting ON clients (rests_until);
CREATE INDEX IF NOT EXISTS clients_quarantined ON clients (id) WHERE quarantined <> 0;

-- How clients that have proved nothing yet behave under a token.
CREATE TABLE parties (
    id        BYTEA NOT NULL PRIMARY KEY,
    strikes   BIGINT NOT NULL, -- leases of theirs that ended badly, since a proof was accepted
    struck_at BIGINT NOT NULL
);

-- What operators decided, and what the server removed by itself.
CREATE TABLE audit (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      BIGINT NOT NULL,
    actor   TEXT   NOT NULL, -- the token's id and name, or who else it was
    deed    TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    detail  TEXT
);

-- What holds for all servers of the database: draining.
CREATE TABLE switches (
    name TEXT   NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL -- it is on
);

-- How far consumers have taken the proofs.
CREATE TABLE deliveries (
    consumer TEXT   NOT NULL PRIMARY KEY,
    through  BIGINT NOT NULL, -- the last block
    at       BIGINT NOT NULL
);
