-- Conversations and their items. `revision` rises with every change of the items; an item's position is the revision
-- that it came with. A hidden conversation was deleted while responses that went on with it are kept: only chains see it.

-- name: insert_conversation(id, owner, created_at, metadata)!
-- A new conversation.
INSERT INTO conversations (id, project_id, created_at, metadata, revision)
VALUES (:id, :owner, :created_at, :metadata, 0);

-- name: conversation(id, owner)^
-- One conversation.
SELECT c.id, c.project_id, c.created_at, c.metadata
FROM conversations c
WHERE c.id = :id AND c.project_id = :owner AND c.hidden = 0;

-- name: set_metadata(id, owner, metadata)!
-- Other metadata.
UPDATE conversations SET metadata = :metadata WHERE id = :id AND project_id = :owner AND hidden = 0;

-- name: hold(id, owner)!
-- Keep everybody else from changing a conversation until this transaction ends.
UPDATE conversations SET revision = revision WHERE id = :id AND project_id = :owner AND hidden = 0;

-- name: state(id)^
-- The revision of a conversation, and how many responses go on with it: one at most.
SELECT c.revision, (
    SELECT COUNT(*) FROM responses r WHERE r.conversation_id = c.id AND r.status IN ('queued', 'in_progress')
)
FROM conversations c WHERE c.id = :id;

-- name: insert_items*!
-- Items of a conversation.
INSERT INTO conversation_items (conversation_id, position, item_id, type, body)
VALUES (:conversation_id, :position, :item_id, :type, :body);

-- name: raise_revision(id, by)!
-- The items have changed.
UPDATE conversations SET revision = revision + :by WHERE id = :id;

-- name: is_known(id, item_id)^
-- One row if an item has this id.
SELECT 1 FROM conversation_items i WHERE i.item_id = :item_id AND i.conversation_id = :id LIMIT 1;

-- name: place(id, item_id)^
-- Where an item stands.
SELECT MAX(i.position) FROM conversation_items i WHERE i.item_id = :item_id AND i.conversation_id = :id;

-- name: newer_items(id, position, most)
-- Items after a place, oldest first.
SELECT i.type, i.body FROM conversation_items i
WHERE i.conversation_id = :id AND i.position > :position
ORDER BY i.position LIMIT :most;

-- name: older_items(id, position, most)
-- Items before a place, newest first.
SELECT i.type, i.body FROM conversation_items i
WHERE i.conversation_id = :id AND i.position < :position
ORDER BY i.position DESC LIMIT :most;

-- name: items_until(id, revision)
-- The items that there are at a revision, oldest first.
SELECT i.type, i.body FROM conversation_items i
WHERE i.conversation_id = :id AND i.position <= :revision
ORDER BY i.position;

-- name: item(id, owner, item_id)^
-- One item of a conversation.
SELECT i.type, i.body
FROM conversation_items i JOIN conversations c ON c.id = i.conversation_id
WHERE i.item_id = :item_id AND i.conversation_id = :id AND c.project_id = :owner AND c.hidden = 0
ORDER BY i.position DESC LIMIT 1;

-- name: newest_item(owner, item_id)^
-- One item of any conversation.
SELECT i.type, i.body
FROM conversation_items i JOIN conversations c ON c.id = i.conversation_id
WHERE i.item_id = :item_id AND c.project_id = :owner AND c.hidden = 0
ORDER BY c.seq DESC, i.position DESC LIMIT 1;

-- name: delete_item(id, item_id)!
-- Forget an item.
DELETE FROM conversation_items WHERE conversation_id = :id AND item_id = :item_id;

-- name: hide_used(id)!
-- Hide a conversation that responses have gone on with.
UPDATE conversations SET hidden = 1, metadata = '{}'
WHERE id = :id AND EXISTS (SELECT 1 FROM responses r WHERE r.conversation_id = :id);

-- name: delete_conversation(id)!
-- Forget a conversation and its items.
DELETE FROM conversations WHERE id = :id;

-- name: collect()!
-- Forget hidden conversations whose responses are gone.
DELETE FROM conversations
WHERE hidden = 1 AND NOT EXISTS (SELECT 1 FROM responses r WHERE r.conversation_id = conversations.id);

-- name: begin_response(id, conversation_id, revision, hidden)!
-- A new response goes on with a conversation.
UPDATE responses SET conversation_id = :conversation_id, conversation_revision = :revision, hidden = :hidden
WHERE id = :id;

-- name: append_response(id)!
-- The items of a response that ends, input and then output, behind those of its conversation. A response that has ended
-- already has added what it has to add.
INSERT INTO conversation_items (conversation_id, position, item_id, type, body)
SELECT c.id, c.revision + ROW_NUMBER() OVER (ORDER BY i.side, i.position), i.item_id, i.type, i.body
FROM responses r
JOIN conversations c ON c.id = r.conversation_id
JOIN items i ON i.response_id = r.id
WHERE r.id = :id AND r.status IN ('queued', 'in_progress');

-- name: forget_response(id)!
-- A response that was to leave nothing behind, when it has ended.
DELETE FROM responses WHERE id = :id AND hidden = 1;
