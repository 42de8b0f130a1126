-- Files that are uploaded in parts.

-- name: insert_upload(id, owner, filename, bytes, purpose, created_at, expires_at, file_expires_after)!
-- A new upload.
INSERT INTO uploads (id, project_id, filename, bytes, purpose, created_at, expires_at, file_expires_after, state)
VALUES (:id, :owner, :filename, :bytes, :purpose, :created_at, :expires_at, :file_expires_after, 'pending');

-- name: upload(id, owner)^
-- One upload.
SELECT id, project_id, filename, bytes, purpose, created_at, expires_at, file_expires_after, state, file_id
FROM uploads
WHERE id = :id AND project_id = :owner;

-- name: pending_uploads(owner, now)$
-- How many uploads of a project are under way.
SELECT COUNT(*) FROM uploads WHERE project_id = :owner AND state = 'pending' AND expires_at > :now;

-- name: end_upload(id, owner, state, file_id, now)!
-- Complete or cancel an upload that is under way.
UPDATE uploads SET state = :state, file_id = :file_id
WHERE id = :id AND project_id = :owner AND state = 'pending' AND expires_at > :now;

-- name: insert_part(id, upload_id, bytes, created_at, blob)!
-- A new part.
INSERT INTO upload_parts (id, upload_id, bytes, created_at, blob)
VALUES (:id, :upload_id, :bytes, :created_at, :blob);

-- name: parts_of(upload_id)
-- The parts of an upload, oldest first.
SELECT id, upload_id, bytes, created_at, blob FROM upload_parts WHERE upload_id = :upload_id ORDER BY seq;

-- name: size_of_parts(upload_id)^
-- How many parts an upload has, and how many bytes.
SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM upload_parts WHERE upload_id = :upload_id;

-- name: delete_parts(upload_id)!
-- Forget the parts of an upload.
DELETE FROM upload_parts WHERE upload_id = :upload_id;

-- name: expire_uploads(now)!
-- End what nobody completed in time, of every owner.
UPDATE uploads SET state = 'expired' WHERE state = 'pending' AND expires_at <= :now;

-- name: ended_uploads_with_parts(most)
-- Uploads that are over and still have parts.
SELECT DISTINCT uploads.id
FROM uploads
JOIN upload_parts ON upload_parts.upload_id = uploads.id
WHERE uploads.state <> 'pending'
LIMIT :most;

-- name: forget_uploads(before)!
-- Forget uploads that are long over.
DELETE FROM uploads
WHERE state <> 'pending' AND expires_at < :before
AND NOT EXISTS (SELECT 1 FROM upload_parts WHERE upload_parts.upload_id = uploads.id);
