-- Snapshots of containers, the responses after which they were taken, and what a model must be told of a container.

-- name: insert_snapshot(id, owner, container_id, name, automatic, created_at, bytes, isolation)!
-- A new snapshot.
INSERT INTO snapshots (id, project_id, container_id, name, automatic, created_at, bytes, isolation)
VALUES (:id, :owner, :container_id, :name, :automatic, :created_at, :bytes, :isolation);

-- name: snapshot(id, owner)^
-- One snapshot.
SELECT id, project_id, container_id, name, automatic, created_at, bytes, isolation
FROM snapshots
WHERE id = :id AND project_id = :owner;

-- name: snapshot_place(id, owner)^
-- Where a snapshot stands in lists.
SELECT created_at, seq FROM snapshots WHERE id = :id AND project_id = :owner;

-- name: newer_snapshots(owner, container_id, created_at, seq, limit)
-- Snapshots of a container after a place, oldest first.
SELECT id, project_id, container_id, name, automatic, created_at, bytes, isolation
FROM snapshots
WHERE project_id = :owner AND container_id = :container_id AND (created_at, seq) > (:created_at, :seq)
ORDER BY created_at, seq
LIMIT :limit;

-- name: older_snapshots(owner, container_id, created_at, seq, limit)
-- Snapshots of a container before a place, newest first.
SELECT id, project_id, container_id, name, automatic, created_at, bytes, isolation
FROM snapshots
WHERE project_id = :owner AND container_id = :container_id AND (created_at, seq) < (:created_at, :seq)
ORDER BY created_at DESC, seq DESC
LIMIT :limit;

-- name: snapshot_ids()
-- Every snapshot of every owner.
SELECT id FROM snapshots;

-- name: surplus_snapshots(container_id, most)
-- Automatic snapshots of a container but the newest ones.
SELECT id, project_id, container_id, name, automatic, created_at, bytes, isolation
FROM snapshots
WHERE automatic = 1 AND container_id = :container_id AND seq NOT IN (
    SELECT seq FROM snapshots
    WHERE automatic = 1 AND container_id = :container_id
    ORDER BY created_at DESC, seq DESC
    LIMIT :most
);

-- name: aged_snapshots(before)
-- Automatic snapshots that are older than a time.
SELECT id, project_id, container_id, name, automatic, created_at, bytes, isolation
FROM snapshots
WHERE automatic = 1 AND created_at < :before;

-- name: oldest_automatic(owner)^
-- The owner's oldest automatic snapshot.
SELECT id, project_id, container_id, name, automatic, created_at, bytes, isolation
FROM snapshots
WHERE automatic = 1 AND project_id = :owner
ORDER BY created_at, seq
LIMIT 1;

-- name: snapshot_bytes(owner)^
-- How much room the owner's snapshots have together.
SELECT COALESCE(SUM(bytes), 0) FROM snapshots WHERE project_id = :owner;

-- name: delete_snapshot(id, owner)!
-- Forget a snapshot; its responses forget it as well.
DELETE FROM snapshots WHERE id = :id AND project_id = :owner;

-- name: insert_response_snapshot(response_id, snapshot_id)!
-- The computer after a response was as in a snapshot, if that is still there.
INSERT INTO response_snapshots (response_id, snapshot_id)
SELECT :response_id, s.id FROM snapshots s WHERE s.id = :snapshot_id
ON CONFLICT (response_id, snapshot_id) DO NOTHING;

-- name: response_snapshots(response_id, owner)
-- The snapshots that were taken after a response, one for each container that it used.
SELECT s.id, s.project_id, s.container_id, s.name, s.automatic, s.created_at, s.bytes, s.isolation
FROM snapshots s JOIN response_snapshots r ON r.snapshot_id = s.id
WHERE r.response_id = :response_id AND s.project_id = :owner
ORDER BY s.seq;

-- name: put_news(container_id, text)!
-- What the next model that uses a container must be told of it, unless the container is gone.
INSERT INTO container_news (container_id, text)
SELECT c.id, :text FROM containers c WHERE c.id = :container_id
ON CONFLICT (container_id) DO UPDATE SET text = excluded.text;

-- name: news(container_id)^
-- What a model must be told of a container.
SELECT text FROM container_news WHERE container_id = :container_id;

-- name: delete_news(container_id)!
-- It was told.
DELETE FROM container_news WHERE container_id = :container_id;
