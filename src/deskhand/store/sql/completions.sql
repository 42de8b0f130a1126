-- Chat completions that are kept. `tags` has a digest of each pair of metadata, in order; see `store/completions.py`.

-- name: insert_completion(id, owner, created_at, model, metadata, tags, body, messages)!
-- A new completion.
INSERT INTO chat_completions (id, project_id, created_at, model, metadata, tags, body, messages)
VALUES (:id, :owner, :created_at, :model, :metadata, :tags, :body, :messages);

-- name: completion(id, owner)^
-- One completion.
SELECT id, project_id, created_at, model, metadata, body
FROM chat_completions
WHERE id = :id AND project_id = :owner;

-- name: messages(id, owner)^
-- What a completion answered.
SELECT messages FROM chat_completions WHERE id = :id AND project_id = :owner;

-- name: completion_place(id, owner)^
-- Where a completion stands in lists.
SELECT created_at, seq FROM chat_completions WHERE id = :id AND project_id = :owner;

-- name: newer_completions(owner, model, tags, created_at, seq, limit)
-- Completions after a place, oldest first.
SELECT id, project_id, created_at, model, metadata, body
FROM chat_completions
WHERE project_id = :owner
AND (CAST(:model AS TEXT) IS NULL OR model = :model)
AND (CAST(:tags AS TEXT) IS NULL OR tags LIKE :tags)
AND (created_at, seq) > (:created_at, :seq)
ORDER BY created_at, seq
LIMIT :limit;

-- name: older_completions(owner, model, tags, created_at, seq, limit)
-- Completions before a place, newest first.
SELECT id, project_id, created_at, model, metadata, body
FROM chat_completions
WHERE project_id = :owner
AND (CAST(:model AS TEXT) IS NULL OR model = :model)
AND (CAST(:tags AS TEXT) IS NULL OR tags LIKE :tags)
AND (created_at, seq) < (:created_at, :seq)
ORDER BY created_at DESC, seq DESC
LIMIT :limit;

-- name: set_completion_metadata(id, owner, metadata, tags)!
-- Other metadata.
UPDATE chat_completions SET metadata = :metadata, tags = :tags WHERE id = :id AND project_id = :owner;

-- name: delete_completion(id, owner)!
-- Forget a completion.
DELETE FROM chat_completions WHERE id = :id AND project_id = :owner;

-- name: expire_completions(before, most)!
-- Forget old completions of every owner.
DELETE FROM chat_completions WHERE seq IN (
    SELECT seq FROM chat_completions WHERE created_at < :before ORDER BY created_at LIMIT :most
);
