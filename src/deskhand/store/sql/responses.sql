-- Responses and their items. `side` of an item is 0 for input given with the response, 1 for its output.
-- A hidden response was deleted while others still continue from it: only chains see it. Or it is not to be stored, and
-- is there only as long as it goes on with a conversation.

-- name: insert_response(id, owner, previous_id, created_at, status, body, background, streamed, process, request)!
-- A new response.
INSERT INTO responses
    (id, project_id, previous_id, created_at, status, body, background, streamed, process, request)
VALUES (:id, :owner, :previous_id, :created_at, :status, :body, :background, :streamed, :process, :request);

-- name: waiting(owner)^
-- How many responses of a project wait for a process that has room for them.
SELECT COUNT(*) FROM responses r
WHERE r.status IN ('queued', 'in_progress') AND r.process = '' AND r.background = 1 AND r.project_id = :owner;

-- name: claim_on(id, sequence_number)^
-- The newest claim on a response, and whether an event is stored.
SELECT r.epoch, (SELECT COUNT(*) FROM events e WHERE e.response_id = r.id AND e.sequence_number = :sequence_number)
FROM responses r WHERE r.id = :id;

-- name: insert_items*!
-- Items of a response that was inserted in the same transaction.
INSERT INTO items (response_id, side, position, item_id, type, body)
VALUES (:response_id, :side, :position, :item_id, :type, :body);

-- name: put_items*!
-- Output items, replacing earlier states of them. Does nothing if the response was deleted meanwhile.
INSERT INTO items (response_id, side, position, item_id, type, body)
SELECT r.id, :side, :position, :item_id, :type, :body FROM responses r WHERE r.id = :response_id
ON CONFLICT (response_id, side, position)
DO UPDATE SET item_id = excluded.item_id, type = excluded.type, body = excluded.body;

-- name: end_response(id, status, body)!
-- The last state of a response, its output aside. Its request is not needed any more.
UPDATE responses SET status = :status, body = :body, process = '', request = NULL WHERE id = :id;

-- name: insert_events*!
-- Events of a response. Does nothing if it was deleted meanwhile.
INSERT INTO events (response_id, sequence_number, type, output_index, body)
SELECT r.id, :sequence_number, :type, :output_index, :body FROM responses r WHERE r.id = :response_id;

-- name: insert_call(response_id, ended_at, turn, produced, usage)!
-- A model call, under the next number. Does nothing if the response was deleted meanwhile.
INSERT INTO model_calls (response_id, number, ended_at, turn, produced, usage)
SELECT r.id, (SELECT COUNT(*) FROM model_calls c WHERE c.response_id = r.id), :ended_at, :turn, :produced, :usage
FROM responses r WHERE r.id = :response_id;

-- name: response(id, owner)
-- A response in one statement, so that it is of one moment: its body first, then its output items in order.
SELECT -1 AS position, r.status AS type, r.body AS body
FROM responses r
WHERE r.id = :id AND r.project_id = :owner AND r.hidden = 0
UNION ALL
SELECT i.position, i.type, i.body
FROM responses r JOIN items i ON i.response_id = r.id AND i.side = 1
WHERE r.id = :id AND r.project_id = :owner AND r.hidden = 0
ORDER BY position;

-- name: given_items(id, owner)
-- The input items of a response in order; one row of nulls if it has none, no row if there is no such response.
SELECT i.type, i.body
FROM responses r LEFT JOIN items i ON i.response_id = r.id AND i.side = 0
WHERE r.id = :id AND r.project_id = :owner AND r.hidden = 0
ORDER BY i.position;

-- name: chain_items(id, owner)
-- Every item of the chain that ends with a response, oldest first. `seq` falls along a chain, so it cannot be circular.
-- Before the items of a response that went on with a conversation come those that the conversation had then.
WITH RECURSIVE chain (id, previous_id, seq, conversation_id, revision) AS (
    SELECT r.id, r.previous_id, r.seq, r.conversation_id, r.conversation_revision
    FROM responses r WHERE r.id = :id AND r.project_id = :owner
    UNION ALL
    SELECT r.id, r.previous_id, r.seq, r.conversation_id, r.conversation_revision
    FROM chain c JOIN responses r ON r.id = c.previous_id
    WHERE r.project_id = :owner AND r.seq < c.seq
)
SELECT i.type, i.body, c.seq AS seq, i.side AS side, i.position AS position
FROM chain c JOIN items i ON i.response_id = c.id
UNION ALL
SELECT i.type, i.body, c.seq, -1, i.position
FROM chain c JOIN conversation_items i ON i.conversation_id = c.conversation_id AND i.position <= c.revision
ORDER BY seq, side, position;

-- name: newest_item(item_id, owner)^
-- The newest state of an item, as clients may send an item again with later responses.
SELECT i.type, i.body
FROM items i JOIN responses r ON r.id = i.response_id
WHERE i.item_id = :item_id AND r.project_id = :owner AND r.hidden = 0
ORDER BY r.seq DESC, i.side DESC, i.position DESC
LIMIT 1;

-- name: hide_continued(id, owner)!
-- Hide a response that others continue from.
UPDATE responses SET hidden = 1
WHERE id = :id AND project_id = :owner AND hidden = 0
AND EXISTS (SELECT 1 FROM responses c WHERE c.previous_id = :id AND c.project_id = :owner);

-- name: delete_uncontinued(id, owner)!
-- Delete a response that none continues from, and those before it that were kept for its sake alone.
DELETE FROM responses WHERE id IN (
    WITH RECURSIVE gone (id, previous_id, seq) AS (
        SELECT r.id, r.previous_id, r.seq FROM responses r WHERE r.id = :id AND r.project_id = :owner AND r.hidden = 0
        UNION ALL
        SELECT r.id, r.previous_id, r.seq
        FROM gone g JOIN responses r ON r.id = g.previous_id
        WHERE r.project_id = :owner AND r.seq < g.seq AND r.hidden = 1
        AND NOT EXISTS (
            SELECT 1 FROM responses c WHERE c.previous_id = r.id AND c.project_id = :owner AND c.id <> g.id
        )
    )
    SELECT id FROM gone
);
