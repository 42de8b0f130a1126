-- What of the bytes belongs to the records.

-- name: blobs_of_files()
-- Those of files, and of their parts.
SELECT blob FROM files UNION SELECT blob FROM upload_parts;

-- name: blobs_of_skills()
-- Those of skills.
SELECT blob FROM skill_blobs;
