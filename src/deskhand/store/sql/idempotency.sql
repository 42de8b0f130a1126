-- Keys under which requests were made, so that each is done once.

-- name: claim_key(owner, key, token, lease_until, expires_at, sealed, now)!
-- Take a key that is free: unused, over, or of a request that died before its response existed.
INSERT INTO idempotency_keys (project_id, key, token, ended, lease_until, expires_at, response_id, sealed)
VALUES (:owner, :key, :token, 0, :lease_until, :expires_at, '', :sealed)
ON CONFLICT (project_id, key) DO UPDATE
SET token = excluded.token, ended = 0, lease_until = excluded.lease_until, expires_at = excluded.expires_at,
    response_id = '', sealed = excluded.sealed
WHERE idempotency_keys.lease_until <= :now
AND (
    idempotency_keys.expires_at <= :now
    OR (
        idempotency_keys.ended = 0
        AND NOT EXISTS (
            SELECT 1 FROM responses r
            WHERE r.id = idempotency_keys.response_id AND r.project_id = idempotency_keys.project_id
        )
    )
);

-- name: forget_surplus_keys(owner, others)!
-- Forget the oldest keys of a project but the newest one and so many others. Those that expire in the same second go together.
DELETE FROM idempotency_keys
WHERE project_id = :owner AND ended = 1 AND expires_at < (
    SELECT k.expires_at FROM idempotency_keys k
    WHERE k.project_id = :owner
    ORDER BY k.expires_at DESC
    LIMIT 1 OFFSET :others
);

-- name: key(owner, key)^
-- One key.
SELECT project_id, key, token, ended, lease_until, expires_at, response_id, sealed
FROM idempotency_keys
WHERE project_id = :owner AND key = :key;

-- name: name_response(token, response_id, sealed)!
-- What the request is about to make.
UPDATE idempotency_keys SET response_id = :response_id, sealed = :sealed WHERE token = :token;

-- name: settle_key(token, sealed)!
-- The request has ended. Its lease ends with it.
UPDATE idempotency_keys SET ended = 1, lease_until = 0, sealed = :sealed WHERE token = :token;

-- name: release_key(token)!
-- Forget a request that has done nothing.
DELETE FROM idempotency_keys WHERE token = :token AND ended = 0;

-- name: renew_keys*!
-- The requests are still under way.
UPDATE idempotency_keys SET lease_until = :lease_until WHERE token = :token AND ended = 0;

-- name: forget_expired_keys(now, most)!
-- Forget keys whose time is over.
DELETE FROM idempotency_keys WHERE seq IN (
    SELECT seq FROM idempotency_keys WHERE expires_at <= :now AND lease_until <= :now ORDER BY expires_at LIMIT :most
);
