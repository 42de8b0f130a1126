-- What of the bytes belongs to the records.

-- name: blobs_of_files()
-- Those of files.
SELECT DISTINCT blob FROM files;

-- name: blobs_of_skills()
-- Those of skills.
SELECT blob FROM skill_blobs;
