-- Uploaded files' records.

-- name: insert_file(id, owner, filename, bytes, purpose, created_at, expires_at, blob)!
-- A new file.
INSERT INTO files (id, project_id, filename, bytes, purpose, created_at, expires_at, blob)
VALUES (:id, :owner, :filename, :bytes, :purpose, :created_at, :expires_at, :blob);

-- name: file(id, owner)^
-- One file.
SELECT id, project_id, filename, bytes, purpose, created_at, expires_at, blob
FROM files
WHERE id = :id AND project_id = :owner;

-- name: file_place(id, owner)^
-- Where a file stands in lists.
SELECT created_at, seq FROM files WHERE id = :id AND project_id = :owner;

-- name: newer_files(owner, purpose, created_at, seq, limit)
-- Files after a place, oldest first.
SELECT id, project_id, filename, bytes, purpose, created_at, expires_at, blob
FROM files
WHERE project_id = :owner AND (CAST(:purpose AS TEXT) IS NULL OR purpose = :purpose)
AND (created_at, seq) > (:created_at, :seq)
ORDER BY created_at, seq
LIMIT :limit;

-- name: older_files(owner, purpose, created_at, seq, limit)
-- Files before a place, newest first.
SELECT id, project_id, filename, bytes, purpose, created_at, expires_at, blob
FROM files
WHERE project_id = :owner AND (CAST(:purpose AS TEXT) IS NULL OR purpose = :purpose)
AND (created_at, seq) < (:created_at, :seq)
ORDER BY created_at DESC, seq DESC
LIMIT :limit;

-- name: delete_file(id, owner)!
-- Forget a file.
DELETE FROM files WHERE id = :id AND project_id = :owner;

-- name: expired_files(now)
-- Files whose time has passed, of every owner.
SELECT id, project_id, filename, bytes, purpose, created_at, expires_at, blob
FROM files
WHERE expires_at <= :now
ORDER BY expires_at, seq;

-- name: blob_user(blob)^
-- A file that names the blob, or a part of one.
SELECT seq FROM files WHERE blob = :blob UNION ALL SELECT seq FROM upload_parts WHERE blob = :blob LIMIT 1;
