-- Who may do what. A secret itself is nowhere: 256 random bits need no slow hash, and the hash gives nothing away.
CREATE TABLE tokens (
    id         BIGINT  NOT NULL PRIMARY KEY, -- random; the readable part of a token
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL CHECK (role IN ('client', 'producer', 'consumer', 'operator', 'viewer')),
    client     BYTEA, -- the only client that may be spoken for, if the role is client
    kind       TEXT    NOT NULL CHECK (kind IN ('secret', 'certificate')),
    hash       BYTEA   NOT NULL, -- SHA-256 of the secret, or of the certificate's DER
    created_at BIGINT  NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
