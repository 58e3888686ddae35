-- A run of consecutive L2 blocks and the statement about them.
CREATE TABLE batches (
    id               INTEGER PRIMARY KEY,
    first            INTEGER NOT NULL,
    last             INTEGER NOT NULL CHECK (first <= last),
    parent_hash      BLOB    NOT NULL,
    last_hash        BLOB    NOT NULL,
    statement        BLOB    NOT NULL, -- ABI bytes, computed by this server; binds the chain
    statement_digest BLOB    NOT NULL,
    input            BLOB    NOT NULL, -- SHA-256 of the program's input
    input_len        INTEGER NOT NULL,
    gas_used         INTEGER NOT NULL,
    transactions     INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    UNIQUE (first, last, statement_digest)
) STRICT;

-- One proof wanted for a batch.
CREATE TABLE jobs (
    seq              INTEGER PRIMARY KEY, -- order of service
    id               BLOB    NOT NULL UNIQUE,
    batch            INTEGER NOT NULL REFERENCES batches (id),
    system           TEXT    NOT NULL,
    program_id       BLOB    NOT NULL,
    kind             TEXT    NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('ready', 'leased', 'verifying', 'proved', 'dead')),
    not_before       INTEGER NOT NULL,
    failures         INTEGER NOT NULL,
    lost             INTEGER NOT NULL,
    lease            BLOB REFERENCES leases (id),
    lease_client     BLOB,
    lease_since      INTEGER,
    lease_expires_at INTEGER,
    proof            BLOB,
    proof_len        INTEGER,
    proved_by        BLOB,
    last_error       TEXT,
    created_at       INTEGER NOT NULL,
    finished_at      INTEGER,
    CHECK ((state IN ('leased', 'verifying')) = (lease IS NOT NULL)),
    CHECK ((state = 'proved') = (proof IS NOT NULL))
) STRICT;
CREATE INDEX jobs_open ON jobs (state, seq) WHERE state <> 'proved';

-- Every lease there ever was, for blame and statistics.
CREATE TABLE leases (
    id         BLOB    NOT NULL PRIMARY KEY,
    job        BLOB    NOT NULL REFERENCES jobs (id),
    client     BLOB    NOT NULL,
    granted_at INTEGER NOT NULL,
    ended_at   INTEGER,
    outcome    TEXT -- proved, proved_by_other, rejected, failed, expired
) STRICT;

-- Every proof that was handed in. A rejected one, with its artifact, is the failure bundle.
CREATE TABLE submissions (
    job         BLOB    NOT NULL REFERENCES jobs (id),
    lease       BLOB    NOT NULL,
    proof       BLOB    NOT NULL,
    proof_len   INTEGER NOT NULL,
    client      BLOB    NOT NULL,
    system      TEXT    NOT NULL,
    program_id  BLOB    NOT NULL,
    kind        TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    verdict     TEXT CHECK (verdict IN ('accepted', 'duplicate', 'rejected')), -- NULL: being verified
    reason      TEXT,
    PRIMARY KEY (job, lease, proof)
) STRICT;
CREATE INDEX submissions_open ON submissions (received_at) WHERE verdict IS NULL;

CREATE TABLE clients (
    id          BLOB    NOT NULL PRIMARY KEY,
    first_seen  INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    proved      INTEGER NOT NULL DEFAULT 0,
    rejected    INTEGER NOT NULL DEFAULT 0,
    strikes     INTEGER NOT NULL DEFAULT 0, -- failures and rejections since its last accepted proof
    rests_until INTEGER NOT NULL DEFAULT 0
) STRICT;
