-- What a proof was expected to cost when the batch was prepared. 0: from before this column.
ALTER TABLE batches ADD COLUMN estimated_cycles INTEGER NOT NULL DEFAULT 0;
