-- Jobs of the kind 'aggregate': they fold proofs of consecutive batches into one. Such a job belongs to the last of its batches, and its
-- parent is the job of the last proof.
CREATE TABLE folds (
    job          BLOB    NOT NULL PRIMARY KEY REFERENCES jobs (id),
    first        INTEGER NOT NULL,
    last         INTEGER NOT NULL,
    statement    BLOB    NOT NULL, -- ABI bytes: what all of them state together, computed by this server
    input        BLOB    NOT NULL, -- SHA-256 of the bundle of proofs
    input_len    INTEGER NOT NULL,
    gas_used     INTEGER NOT NULL,
    transactions INTEGER NOT NULL,
    -- Another one took its place while a reorg had taken its blocks away.
    replaced     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX folds_first ON folds (first);
CREATE INDEX folds_last ON folds (last);
CREATE INDEX folds_input ON folds (input);
