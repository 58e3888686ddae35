-- Batches on their way to a contract on L1, each with the transaction that settles it.
CREATE TABLE settlements (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rollup       BYTEA   NOT NULL, -- L1's chain id and the contract's address
    first        BIGINT NOT NULL,
    last         BIGINT NOT NULL CHECK (first <= last),
    parent_hash  BYTEA   NOT NULL,
    last_hash    BYTEA   NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('ready', 'signed', 'seen', 'final', 'dropped')),
    call         BYTEA   NOT NULL, -- what the contract is called with; empty when it is over
    nonce        BIGINT, -- of the transaction that was signed last, as are the following
    tx_hash      BYTEA,
    tx           BYTEA,
    max_fee      BIGINT,
    priority_fee BIGINT,
    signed_at    BIGINT,
    wasted       BIGINT NOT NULL DEFAULT 0, -- nonces that were used up without settling it
    UNIQUE (rollup, first, last, last_hash),
    CHECK (state <> 'signed' OR tx IS NOT NULL)
);
CREATE INDEX IF NOT EXISTS settlements_state ON settlements (rollup, state, first);
CREATE INDEX IF NOT EXISTS settlements_nonce ON settlements (rollup, nonce) WHERE nonce IS NOT NULL;

-- Who sends, for each contract, and what L1 said last.
CREATE TABLE settlers (
    rollup       BYTEA   NOT NULL PRIMARY KEY,
    holder       BYTEA   NOT NULL,
    holds_until  BIGINT NOT NULL,
    settled      BIGINT, -- the last block that is settled, in L1's newest block
    finalized    BIGINT, -- and in its newest finalized one
    balance_gwei BIGINT, -- of the wallet
    waiting_since BIGINT, -- since when a signed transaction waits
    alarm        TEXT,    -- the log code of what keeps it from settling
    seen_at      BIGINT  -- when L1 said so
);
