-- As migrations/sqlite/0001_jobs.sql, in PostgreSQL's words.

-- A run of consecutive L2 blocks and the statement about them.
CREATE TABLE batches (
    id               BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first            BIGINT  NOT NULL,
    last             BIGINT  NOT NULL CHECK (first <= last),
    parent_hash      BYTEA   NOT NULL,
    last_hash        BYTEA   NOT NULL,
    statement        BYTEA   NOT NULL, -- ABI bytes, computed by this server; binds the chain
    statement_digest BYTEA   NOT NULL,
    input            BYTEA   NOT NULL, -- SHA-256 of the program's input
    input_len        BIGINT  NOT NULL,
    gas_used         BIGINT  NOT NULL,
    transactions     BIGINT  NOT NULL,
    created_at       BIGINT  NOT NULL,
    UNIQUE (first, last, statement_digest)
);

-- One proof wanted for a batch.
CREATE TABLE jobs (
    seq              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order of service
    id               BYTEA   NOT NULL UNIQUE,
    batch            BIGINT  NOT NULL REFERENCES batches (id),
    system           TEXT    NOT NULL,
    program_id       BYTEA   NOT NULL,
    kind             TEXT    NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('ready', 'leased', 'verifying', 'proved', 'dead')),
    not_before       BIGINT  NOT NULL,
    failures         BIGINT  NOT NULL,
    lost             BIGINT  NOT NULL,
    lease            BYTEA, -- references leases, see below
    lease_client     BYTEA,
    lease_since      BIGINT,
    lease_expires_at BIGINT,
    proof            BYTEA,
    proof_len        BIGINT,
    proved_by        BYTEA,
    last_error       TEXT,
    created_at       BIGINT  NOT NULL,
    finished_at      BIGINT,
    CHECK ((state IN ('leased', 'verifying')) = (lease IS NOT NULL)),
    CHECK ((state = 'proved') = (proof IS NOT NULL))
);
CREATE INDEX jobs_open ON jobs (state, seq) WHERE state <> 'proved';

-- Every lease there ever was, for blame and statistics.
CREATE TABLE leases (
    id         BYTEA   NOT NULL PRIMARY KEY,
    job        BYTEA   NOT NULL REFERENCES jobs (id),
    client     BYTEA   NOT NULL,
    granted_at BIGINT  NOT NULL,
    ended_at   BIGINT,
    outcome    TEXT -- proved, proved_by_other, rejected, failed, expired
);

ALTER TABLE jobs ADD FOREIGN KEY (lease) REFERENCES leases (id);

-- Every proof that was handed in. A rejected one, with its artifact, is the failure bundle.
CREATE TABLE submissions (
    job         BYTEA   NOT NULL REFERENCES jobs (id),
    lease       BYTEA   NOT NULL,
    proof       BYTEA   NOT NULL,
    proof_len   BIGINT  NOT NULL,
    client      BYTEA   NOT NULL,
    system      TEXT    NOT NULL,
    program_id  BYTEA   NOT NULL,
    kind        TEXT    NOT NULL,
    received_at BIGINT  NOT NULL,
    verdict     TEXT CHECK (verdict IN ('accepted', 'duplicate', 'rejected')), -- NULL: being verified
    reason      TEXT,
    PRIMARY KEY (job, lease, proof)
);
CREATE INDEX submissions_open ON submissions (received_at) WHERE verdict IS NULL;

CREATE TABLE clients (
    id          BYTEA   NOT NULL PRIMARY KEY,
    first_seen  BIGINT  NOT NULL,
    last_seen   BIGINT  NOT NULL,
    proved      BIGINT  NOT NULL DEFAULT 0,
    rejected    BIGINT  NOT NULL DEFAULT 0,
    strikes     BIGINT  NOT NULL DEFAULT 0, -- failures and rejections since its last accepted proof
    rests_until BIGINT  NOT NULL DEFAULT 0
);

-- The artifact folder that all servers of this database share. One row.
CREATE TABLE artifact_folder (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    id  TEXT   NOT NULL -- what the folder's file `folder-id` holds
);
