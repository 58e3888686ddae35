-- What a client says that it can prove, and on what, as JSON: for people. NULL from servers of the version before.
ALTER TABLE clients ADD COLUMN capabilities TEXT;
-- How many cycles it proves in a second, as its accepted proofs show. NULL before the first one.
ALTER TABLE clients ADD COLUMN cycles_per_second INTEGER;
