-- Webhook endpoints. Their secrets are sealed.

-- name: insert_endpoint(id, owner, name, url, event_types, created_at, updated_at, hint, secret, most)!
-- A new endpoint, if its project has room.
INSERT INTO webhook_endpoints
    (id, project_id, name, url, event_types, created_at, updated_at, hint, secret, previous_until)
SELECT CAST(:id AS TEXT), CAST(:owner AS TEXT), CAST(:name AS TEXT), CAST(:url AS TEXT), CAST(:event_types AS TEXT),
    :created_at, :updated_at, CAST(:hint AS TEXT), :secret, 0
WHERE (SELECT COUNT(*) FROM webhook_endpoints e WHERE e.project_id = :owner) < :most;

-- name: endpoint(id, owner)^
-- One endpoint.
SELECT id, project_id, name, url, event_types, created_at, updated_at, hint, secret, previous, previous_until
FROM webhook_endpoints
WHERE id = :id AND project_id = :owner;

-- name: endpoint_place(id, owner)^
-- Where an endpoint stands in lists.
SELECT created_at, seq FROM webhook_endpoints WHERE id = :id AND project_id = :owner;

-- name: newer_endpoints(owner, created_at, seq, limit)
-- Endpoints after a place, oldest first.
SELECT id, project_id, name, url, event_types, created_at, updated_at, hint, secret, previous, previous_until
FROM webhook_endpoints
WHERE project_id = :owner AND (created_at, seq) > (:created_at, :seq)
ORDER BY created_at, seq
LIMIT :limit;

-- name: older_endpoints(owner, created_at, seq, limit)
-- Endpoints before a place, newest first.
SELECT id, project_id, name, url, event_types, created_at, updated_at, hint, secret, previous, previous_until
FROM webhook_endpoints
WHERE project_id = :owner AND (created_at, seq) < (:created_at, :seq)
ORDER BY created_at DESC, seq DESC
LIMIT :limit;

-- name: change_endpoint(id, owner, name, url, event_types, now)!
-- Other values; null leaves one as it is. No update if nothing changes.
UPDATE webhook_endpoints
SET name = COALESCE(CAST(:name AS TEXT), name), url = COALESCE(CAST(:url AS TEXT), url),
    event_types = COALESCE(CAST(:event_types AS TEXT), event_types), updated_at = :now
WHERE id = :id AND project_id = :owner
AND (
    name <> COALESCE(CAST(:name AS TEXT), name)
    OR url <> COALESCE(CAST(:url AS TEXT), url)
    OR event_types <> COALESCE(CAST(:event_types AS TEXT), event_types)
);

-- name: rotate_keeping(id, owner, secret, hint, previous_until, now)!
-- Another secret. That before it signs for a while.
UPDATE webhook_endpoints
SET previous = secret, previous_until = :previous_until, secret = :secret, hint = :hint, updated_at = :now
WHERE id = :id AND project_id = :owner;

-- name: rotate_at_once(id, owner, secret, hint, now)!
-- Another secret. No earlier one signs any more.
UPDATE webhook_endpoints
SET previous = NULL, previous_until = 0, secret = :secret, hint = :hint, updated_at = :now
WHERE id = :id AND project_id = :owner;

-- name: delete_endpoint(id, owner)!
-- Forget an endpoint.
DELETE FROM webhook_endpoints WHERE id = :id AND project_id = :owner;

-- name: endpoint_of_delivery(id)^
-- Where a delivery goes.
SELECT e.id, e.project_id, e.name, e.url, e.event_types, e.created_at, e.updated_at, e.hint, e.secret, e.previous,
    e.previous_until
FROM webhook_endpoints e
WHERE e.id = (SELECT d.endpoint_id FROM webhook_deliveries d WHERE d.id = :id);

-- name: delete_previous_secrets(now)!
-- Forget secrets that do not sign any more.
UPDATE webhook_endpoints SET previous = NULL, previous_until = 0 WHERE previous IS NOT NULL AND previous_until <= :now;
