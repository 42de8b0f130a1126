-- Deliveries of events to webhook endpoints. One that is being sent has a lease.

-- name: told(response_id)
-- The endpoints of a background response's project, and of which events they want to be told.
SELECT e.id, e.project_id, e.event_types
FROM responses r JOIN webhook_endpoints e ON e.project_id = r.project_id
WHERE r.id = :response_id AND r.background = 1;

-- name: insert_deliveries*!
-- New deliveries. What was announced before is not announced again.
INSERT INTO webhook_deliveries
    (id, project_id, endpoint_id, event_id, event_type, body, created_at, state, attempts, status_code, error,
    next_attempt_at, finished_at)
VALUES (:id, :owner, :endpoint_id, :event_id, :event_type, :body, :created_at, :state, :attempts, :status_code, :error,
    :next_attempt_at, :finished_at)
ON CONFLICT (id) DO NOTHING;

-- name: delivery(id, owner, endpoint_id)^
-- One delivery.
SELECT id, project_id, endpoint_id, event_id, event_type, body, created_at, state, attempts, status_code, error,
    next_attempt_at, finished_at
FROM webhook_deliveries
WHERE id = :id AND project_id = :owner AND endpoint_id = :endpoint_id;

-- name: delivery_place(id, owner)^
-- Where a delivery stands in lists.
SELECT created_at, seq FROM webhook_deliveries WHERE id = :id AND project_id = :owner;

-- name: newer_deliveries(owner, endpoint_id, created_at, seq, limit)
-- Deliveries to an endpoint after a place, oldest first.
SELECT id, project_id, endpoint_id, event_id, event_type, body, created_at, state, attempts, status_code, error,
    next_attempt_at, finished_at
FROM webhook_deliveries
WHERE project_id = :owner AND endpoint_id = :endpoint_id AND (created_at, seq) > (:created_at, :seq)
ORDER BY created_at, seq
LIMIT :limit;

-- name: older_deliveries(owner, endpoint_id, created_at, seq, limit)
-- Deliveries to an endpoint before a place, newest first.
SELECT id, project_id, endpoint_id, event_id, event_type, body, created_at, state, attempts, status_code, error,
    next_attempt_at, finished_at
FROM webhook_deliveries
WHERE project_id = :owner AND endpoint_id = :endpoint_id AND (created_at, seq) < (:created_at, :seq)
ORDER BY created_at DESC, seq DESC
LIMIT :limit;

-- name: retry_delivery(id, owner, endpoint_id, now)!
-- A delivery is due now, unless it is being sent.
UPDATE webhook_deliveries SET state = 'pending', next_attempt_at = :now, finished_at = 0
WHERE id = :id AND project_id = :owner AND endpoint_id = :endpoint_id AND lease_until <= :now;

-- name: is_due(now)^
-- Whether there is anything to send. Cheap, as it is asked every second.
SELECT 1 FROM webhook_deliveries WHERE state = 'pending' AND next_attempt_at <= :now AND lease_until <= :now LIMIT 1;

-- name: due_deliveries(now, each)
-- The longest due deliveries of each endpoint. A backlog of one does not hide those of others, nor is it read.
SELECT d.id, d.project_id, d.endpoint_id, d.event_id, d.event_type, d.body, d.created_at, d.state, d.attempts,
    d.status_code, d.error, d.next_attempt_at, d.finished_at
FROM webhook_endpoints e JOIN webhook_deliveries d ON d.seq IN (
    SELECT x.seq FROM webhook_deliveries x
    WHERE x.endpoint_id = e.id AND x.state = 'pending' AND x.next_attempt_at <= :now AND x.lease_until <= :now
    ORDER BY x.next_attempt_at, x.seq
    LIMIT :each
)
ORDER BY d.next_attempt_at, d.seq;

-- name: claim_delivery(id, attempts, now, lease_until)!
-- Begin an attempt, if nobody has since the delivery was looked at.
UPDATE webhook_deliveries SET attempts = attempts + 1, lease_until = :lease_until
WHERE id = :id AND state = 'pending' AND attempts = :attempts AND lease_until <= :now;

-- name: settle_delivery(id, attempts, state, status_code, error, next_attempt_at, finished_at)!
-- End the attempt with this number, if none was begun after it.
UPDATE webhook_deliveries
SET state = :state, status_code = :status_code, error = :error, next_attempt_at = :next_attempt_at,
    finished_at = :finished_at, lease_until = 0
WHERE id = :id AND attempts = :attempts AND lease_until > 0;

-- name: delete_deliveries_to(endpoint_id)!
-- Forget the deliveries of an endpoint that is deleted.
DELETE FROM webhook_deliveries WHERE endpoint_id = :endpoint_id;

-- name: delete_finished(before)!
-- Forget deliveries that are old.
DELETE FROM webhook_deliveries WHERE state <> 'pending' AND finished_at < :before;

-- name: delete_orphaned()!
-- Forget deliveries of endpoints that were deleted while they were announced.
DELETE FROM webhook_deliveries WHERE endpoint_id NOT IN (SELECT e.id FROM webhook_endpoints e);
