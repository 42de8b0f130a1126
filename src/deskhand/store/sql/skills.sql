-- Skills, their versions, and the packed contents that are kept for them.

-- name: insert_skill(id, owner, created_at)!
-- A new skill.
INSERT INTO skills (id, project_id, created_at, default_version, last_version)
VALUES (:id, :owner, :created_at, 1, 1);

-- name: insert_version(id, skill_id, version, created_at, name, description, blob)!
-- A new version.
INSERT INTO skill_versions (id, skill_id, version, created_at, name, description, blob)
VALUES (:id, :skill_id, :version, :created_at, :name, :description, :blob);

-- name: skill(id, owner)^
-- One skill.
SELECT s.id, s.project_id, s.created_at, s.default_version,
(SELECT l.version FROM skill_versions l WHERE l.skill_id = s.id ORDER BY l.version DESC LIMIT 1), v.name, v.description
FROM skills s JOIN skill_versions v ON v.skill_id = s.id AND v.version = s.default_version
WHERE s.id = :id AND s.project_id = :owner;

-- name: skill_place(id, owner)^
-- Where a skill stands in lists.
SELECT created_at, seq FROM skills WHERE id = :id AND project_id = :owner;

-- name: newer_skills(owner, created_at, seq, limit)
-- Skills after a place, oldest first.
SELECT s.id, s.project_id, s.created_at, s.default_version,
(SELECT l.version FROM skill_versions l WHERE l.skill_id = s.id ORDER BY l.version DESC LIMIT 1), v.name, v.description
FROM skills s JOIN skill_versions v ON v.skill_id = s.id AND v.version = s.default_version
WHERE s.project_id = :owner AND (s.created_at, s.seq) > (:created_at, :seq)
ORDER BY s.created_at, s.seq
LIMIT :limit;

-- name: older_skills(owner, created_at, seq, limit)
-- Skills before a place, newest first.
SELECT s.id, s.project_id, s.created_at, s.default_version,
(SELECT l.version FROM skill_versions l WHERE l.skill_id = s.id ORDER BY l.version DESC LIMIT 1), v.name, v.description
FROM skills s JOIN skill_versions v ON v.skill_id = s.id AND v.version = s.default_version
WHERE s.project_id = :owner AND (s.created_at, s.seq) < (:created_at, :seq)
ORDER BY s.created_at DESC, s.seq DESC
LIMIT :limit;

-- name: set_default(id, owner, version)!
-- Another default version, if there is such a one.
UPDATE skills SET default_version = :version
WHERE id = :id AND project_id = :owner
AND EXISTS (SELECT 1 FROM skill_versions v WHERE v.skill_id = :id AND v.version = :version);

-- name: delete_skill(id, owner)!
-- Forget a skill; its versions go with it.
DELETE FROM skills WHERE id = :id AND project_id = :owner;

-- name: number_version(id, owner)!
-- Give out the next number.
UPDATE skills SET last_version = last_version + 1 WHERE id = :id AND project_id = :owner;

-- name: last_number(id, owner)^
-- The highest number given out.
SELECT last_version FROM skills WHERE id = :id AND project_id = :owner;

-- name: version(skill_id, owner, version)^
-- One version.
SELECT v.id, v.skill_id, v.version, v.created_at, v.name, v.description, v.blob
FROM skill_versions v JOIN skills s ON s.id = v.skill_id
WHERE v.skill_id = :skill_id AND s.project_id = :owner AND v.version = :version;

-- name: version_place(id, owner, skill_id)^
-- Where a version stands in the list of its skill.
SELECT v.created_at, v.seq
FROM skill_versions v JOIN skills s ON s.id = v.skill_id
WHERE v.id = :id AND v.skill_id = :skill_id AND s.project_id = :owner;

-- name: newer_versions(owner, skill_id, created_at, seq, limit)
-- Versions after a place, oldest first.
SELECT v.id, v.skill_id, v.version, v.created_at, v.name, v.description, v.blob
FROM skill_versions v JOIN skills s ON s.id = v.skill_id
WHERE v.skill_id = :skill_id AND s.project_id = :owner AND (v.created_at, v.seq) > (:created_at, :seq)
ORDER BY v.created_at, v.seq
LIMIT :limit;

-- name: older_versions(owner, skill_id, created_at, seq, limit)
-- Versions before a place, newest first.
SELECT v.id, v.skill_id, v.version, v.created_at, v.name, v.description, v.blob
FROM skill_versions v JOIN skills s ON s.id = v.skill_id
WHERE v.skill_id = :skill_id AND s.project_id = :owner AND (v.created_at, v.seq) < (:created_at, :seq)
ORDER BY v.created_at DESC, v.seq DESC
LIMIT :limit;

-- name: delete_plain_version(skill_id, owner, version)!
-- Forget a version that is not the default.
DELETE FROM skill_versions
WHERE skill_id = :skill_id AND version = :version
AND EXISTS (
    SELECT 1 FROM skills s WHERE s.id = :skill_id AND s.project_id = :owner AND s.default_version <> :version
);

-- name: delete_skill_of_last_version(skill_id, owner, version)!
-- Forget a skill, if this is its only version.
DELETE FROM skills
WHERE id = :skill_id AND project_id = :owner AND default_version = :version
AND NOT EXISTS (SELECT 1 FROM skill_versions v WHERE v.skill_id = :skill_id AND v.version <> :version);

-- name: keep_blob(blob, now)!
-- Content is wanted.
INSERT INTO skill_blobs (blob, kept_at) VALUES (:blob, :now)
ON CONFLICT (blob) DO UPDATE SET kept_at = :now;

-- name: blobs_without_version(before)
-- Contents that no version has.
SELECT b.blob FROM skill_blobs b
WHERE b.kept_at < :before AND NOT EXISTS (SELECT 1 FROM skill_versions v WHERE v.blob = b.blob);

-- name: skills_of_containers()
-- The skills of containers that run or may come back.
SELECT c.skills FROM containers c
WHERE c.skills <> ''
AND (c.state <> 'expired' OR c.on_expired <> 'error' OR c.id IN (SELECT x.container_id FROM snapshots x));

-- name: forget_blob(blob, before)!
-- Forget content that nobody needs.
DELETE FROM skill_blobs
WHERE blob = :blob AND kept_at < :before
AND NOT EXISTS (SELECT 1 FROM skill_versions v WHERE v.blob = :blob)
AND NOT EXISTS (
    SELECT 1 FROM containers c
    WHERE c.skills <> ''
    AND (c.state <> 'expired' OR c.on_expired <> 'error' OR c.id IN (SELECT x.container_id FROM snapshots x))
    AND c.skills LIKE '%' || :blob || '%'
);
