-- Containers and the ids of their files.

-- name: insert_container(id, owner, name, state, created_at, last_active_at, expires_after_minutes, memory_limit, on_expired, network, skills, isolation, host)!
-- A new container.
INSERT INTO containers
(id, project_id, name, state, created_at, last_active_at, expires_after_minutes, memory_limit, on_expired, network,
skills, isolation, host)
VALUES (:id, :owner, :name, :state, :created_at, :last_active_at, :expires_after_minutes, :memory_limit, :on_expired,
:network, :skills, :isolation, :host);

-- name: container(id, owner)^
-- One container.
SELECT id, project_id, name, state, created_at, last_active_at, expires_after_minutes, memory_limit, on_expired,
network, skills, isolation, host
FROM containers
WHERE id = :id AND project_id = :owner;

-- name: container_place(id, owner)^
-- Where a container stands in lists.
SELECT created_at, seq FROM containers WHERE id = :id AND project_id = :owner AND state <> 'reserved';

-- name: newer_containers(owner, name, created_at, seq, limit)
-- Containers after a place, oldest first. Reserved ones do not exist for lists.
SELECT id, project_id, name, state, created_at, last_active_at, expires_after_minutes, memory_limit, on_expired,
network, skills, isolation, host
FROM containers
WHERE project_id = :owner AND (CAST(:name AS TEXT) IS NULL OR name = :name) AND state <> 'reserved'
AND (created_at, seq) > (:created_at, :seq)
ORDER BY created_at, seq
LIMIT :limit;

-- name: older_containers(owner, name, created_at, seq, limit)
-- Containers before a place, newest first. Reserved ones do not exist for lists.
SELECT id, project_id, name, state, created_at, last_active_at, expires_after_minutes, memory_limit, on_expired,
network, skills, isolation, host
FROM containers
WHERE project_id = :owner AND (CAST(:name AS TEXT) IS NULL OR name = :name) AND state <> 'reserved'
AND (created_at, seq) < (:created_at, :seq)
ORDER BY created_at DESC, seq DESC
LIMIT :limit;

-- name: live_containers(host)
-- Every running container of a host, oldest first. One without a host is from before there were several.
SELECT id, project_id, name, state, created_at, last_active_at, expires_after_minutes, memory_limit, on_expired,
network, skills, isolation, host
FROM containers
WHERE state = 'running' AND host IN (:host, '')
ORDER BY seq;

-- name: count_live(owner)^
-- How many containers of an owner run.
SELECT COUNT(*) FROM containers WHERE state = 'running' AND project_id = :owner;

-- name: touch(id, now)!
-- A container was used.
UPDATE containers SET last_active_at = :now WHERE id = :id;

-- name: begin_container(id, host)!
-- A container runs, on a host.
UPDATE containers SET state = 'running', host = :host WHERE id = :id;

-- name: set_state(id, state)!
-- A container ended.
UPDATE containers SET state = :state WHERE id = :id;

-- name: set_skills(id, skills)!
-- A container got skills.
UPDATE containers SET skills = :skills WHERE id = :id;

-- name: forget_reserved(before)!
-- Containers that were promised and never used.
DELETE FROM containers WHERE state = 'reserved' AND last_active_at < :before;

-- name: delete_container(id, owner)!
-- Forget a container; its files' records go with it.
DELETE FROM containers WHERE id = :id AND project_id = :owner;

-- name: insert_container_file(id, container_id, path, source, created_at)!
-- A file of a container, unless its path has an id already or the container is gone.
INSERT INTO container_files (id, container_id, path, source, created_at)
SELECT :id, c.id, :path, :source, :created_at FROM containers c WHERE c.id = :container_id
ON CONFLICT (container_id, path) DO NOTHING;

-- name: container_file_at(container_id, path)^
-- The file at a path.
SELECT id, container_id, path, source, created_at
FROM container_files
WHERE container_id = :container_id AND path = :path;

-- name: container_files(container_id)
-- The files of a container, oldest first.
SELECT id, container_id, path, source, created_at
FROM container_files
WHERE container_id = :container_id
ORDER BY seq;

-- name: container_file(id, container_id)^
-- One file.
SELECT id, container_id, path, source, created_at
FROM container_files
WHERE id = :id AND container_id = :container_id;

-- name: delete_container_file(id, container_id)!
-- Forget the id of a file.
DELETE FROM container_files WHERE id = :id AND container_id = :container_id;
