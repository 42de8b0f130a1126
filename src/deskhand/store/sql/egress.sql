-- Secrets of containers, sealed, and the record of what left.

-- name: insert_secret(container_id, name, domain, placeholder, sealed)!
-- A secret, or another value for it.
INSERT INTO container_secrets (container_id, name, domain, placeholder, sealed)
VALUES (:container_id, :name, :domain, :placeholder, :sealed)
ON CONFLICT (container_id, name, domain) DO UPDATE SET placeholder = excluded.placeholder, sealed = excluded.sealed;

-- name: container_secrets(container_id)
-- The secrets of a container.
SELECT container_id, name, domain, placeholder, sealed
FROM container_secrets
WHERE container_id = :container_id
ORDER BY name, domain;

-- name: delete_secrets(container_id)!
-- Forget the secrets of a container.
DELETE FROM container_secrets WHERE container_id = :container_id;

-- name: insert_records*!
-- Attempts to leave.
INSERT INTO egress_records
(id, project_id, container_id, created_at, response_id, call_id, host, port, method, path, decision, reason, rule,
verified, status, bytes_out, bytes_in, secrets)
VALUES (:id, :owner, :container_id, :created_ms, :response_id, :call_id, :host, :port, :method, :path, :decision,
:reason, :rule, :verified, :status, :bytes_out, :bytes_in, :secrets);

-- name: record_place(id, owner)^
-- Where a record stands in lists.
SELECT created_at, seq FROM egress_records WHERE id = :id AND project_id = :owner;

-- name: newer_records(owner, container_id, created_at, seq, limit)
-- Records of a container after a place, oldest first.
SELECT id, project_id, container_id, created_at, response_id, call_id, host, port, method, path, decision, reason, rule,
verified, status, bytes_out, bytes_in, secrets
FROM egress_records
WHERE project_id = :owner AND container_id = :container_id AND (created_at, seq) > (:created_at, :seq)
ORDER BY created_at, seq
LIMIT :limit;

-- name: older_records(owner, container_id, created_at, seq, limit)
-- Records of a container before a place, newest first.
SELECT id, project_id, container_id, created_at, response_id, call_id, host, port, method, path, decision, reason, rule,
verified, status, bytes_out, bytes_in, secrets
FROM egress_records
WHERE project_id = :owner AND container_id = :container_id AND (created_at, seq) < (:created_at, :seq)
ORDER BY created_at DESC, seq DESC
LIMIT :limit;

-- name: delete_records(before)!
-- Forget records that are old.
DELETE FROM egress_records WHERE created_at < :before;
