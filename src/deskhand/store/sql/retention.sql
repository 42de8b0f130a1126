-- What goes with time. See `responses.sql` for what a hidden response is.

-- name: old_responses(before, most)
-- Ended responses from before a time, the youngest first: so a chain goes from its end, and nothing is hidden in vain.
-- The condition on `hidden` is that of the index `responses_aging`.
SELECT r.id, r.project_id
FROM responses r
WHERE r.hidden = 0 AND r.created_at < :before AND r.status NOT IN ('queued', 'in_progress')
ORDER BY r.created_at DESC, r.seq DESC
LIMIT :most;

-- name: gone_with(id, owner)
-- A response that none continues from, and those before it that were kept for its sake alone.
WITH RECURSIVE gone (id, previous_id, seq) AS (
    SELECT r.id, r.previous_id, r.seq FROM responses r
    WHERE r.id = :id AND r.project_id = :owner AND r.hidden = 0
    AND NOT EXISTS (SELECT 1 FROM responses c WHERE c.previous_id = r.id AND c.project_id = :owner)
    UNION ALL
    SELECT r.id, r.previous_id, r.seq
    FROM gone g JOIN responses r ON r.id = g.previous_id
    WHERE r.project_id = :owner AND r.seq < g.seq AND r.hidden = 1
    AND NOT EXISTS (
        SELECT 1 FROM responses c WHERE c.previous_id = r.id AND c.project_id = :owner AND c.id <> g.id
    )
)
SELECT id FROM gone;

-- name: hide_response(id)!
-- Hide a response that others continue from.
UPDATE responses SET hidden = 1 WHERE id = :id;

-- name: delete_responses*!
-- Delete responses, their items and events with them.
DELETE FROM responses WHERE id = :id;

-- name: forget_links*!
-- Forget which snapshots were taken after a response that is gone.
DELETE FROM response_snapshots WHERE response_id = :id;

-- name: expire_traces(before, most)!
-- Forget old traces of every owner, their spans with them.
DELETE FROM traces WHERE seq IN (
    SELECT seq FROM traces WHERE created_at < :before ORDER BY created_at LIMIT :most
);
