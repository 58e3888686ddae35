-- Jobs of the kind 'aggregate': they fold proofs of consecutive batches into one. Such a job belongs to the last of its batches, and its
-- parent is the job of the last proof.
CREATE TABLE folds (
    job          BYTEA   NOT NULL PRIMARY KEY REFERENCES jobs (id),
    first        BIGINT  NOT NULL,
    last         BIGINT  NOT NULL,
    statement    BYTEA   NOT NULL, -- ABI bytes: what all of them state together, computed by this server
    input        BYTEA   NOT NULL, -- SHA-256 of the bundle of proofs
    input_len    BIGINT  NOT NULL,
    gas_used     BIGINT  NOT NULL,
    transactions BIGINT  NOT NULL,
    -- Another one took its place while a reorg had taken its blocks away.
    replaced     BIGINT  NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS folds_first ON folds (first);
CREATE INDEX IF NOT EXISTS folds_last ON folds (last);
CREATE INDEX IF NOT EXISTS folds_input ON folds (input);
