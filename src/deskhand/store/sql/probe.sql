-- A row that is written to see whether rows can be written.

-- name: probe(now)!
-- Write it.
UPDATE storage_probe SET checked_at = :now WHERE id = 1;
