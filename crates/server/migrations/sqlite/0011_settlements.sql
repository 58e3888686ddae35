-- Batches on their way to a contract on L1, each with the transaction that settles it.
CREATE TABLE settlements (
    id           INTEGER PRIMARY KEY,
    rollup       BLOB    NOT NULL, -- L1's chain id and the contract's address
    first        INTEGER NOT NULL,
    last         INTEGER NOT NULL CHECK (first <= last),
    parent_hash  BLOB    NOT NULL,
    last_hash    BLOB    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('ready', 'signed', 'seen', 'final', 'dropped')),
    call         BLOB    NOT NULL, -- what the contract is called with; empty when it is over
    nonce        INTEGER, -- of the transaction that was signed last, as are the following
    tx_hash      BLOB,
    tx           BLOB,
    max_fee      INTEGER,
    priority_fee INTEGER,
    signed_at    INTEGER,
    wasted       INTEGER NOT NULL DEFAULT 0, -- nonces that were used up without settling it
    UNIQUE (rollup, first, last, last_hash),
    CHECK (state <> 'signed' OR tx IS NOT NULL)
) STRICT;
CREATE INDEX settlements_state ON settlements (rollup, state, first);
CREATE INDEX settlements_nonce ON settlements (rollup, nonce) WHERE nonce IS NOT NULL;

-- Who sends, for each contract, and what L1 said last.
CREATE TABLE settlers (
    rollup       BLOB    NOT NULL PRIMARY KEY,
    holder       BLOB    NOT NULL,
    holds_until  INTEGER NOT NULL,
    settled      INTEGER, -- the last block that is settled, in L1's newest block
    finalized    INTEGER, -- and in its newest finalized one
    balance_gwei INTEGER, -- of the wallet
    waiting_since INTEGER, -- since when a signed transaction waits
    alarm        TEXT,    -- the log code of what keeps it from settling
    seen_at      INTEGER -- when L1 said so
) STRICT;
