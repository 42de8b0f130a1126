-- Processes, claims on responses, and what is stored of runs. A response that nobody runs has process ''.

-- name: raise_beat(id)!
-- A process lives; nothing if it is not known.
UPDATE processes SET beats = beats + 1 WHERE id = :id;

-- name: insert_process(id, host, url)!
-- A new process.
INSERT INTO processes (id, host, url, beats) VALUES (:id, :host, :url, 0);

-- name: url_of(host)^
-- Where a host serves.
SELECT p.url FROM processes p WHERE p.host = :host;

-- name: assign(id, epoch, host)!
-- Leave a response to the process of a host.
UPDATE responses SET process = COALESCE((SELECT MAX(p.id) FROM processes p WHERE p.host = :host), '')
WHERE id = :id AND epoch = :epoch;

-- name: delete_host(host)!
-- The processes of a host are no more.
DELETE FROM processes WHERE host = :host;

-- name: beats()
-- How often each process has said that it lives.
SELECT p.id, p.beats FROM processes p;

-- name: delete_process(id)!
-- A process is no more.
DELETE FROM processes WHERE id = :id;

-- name: orphans(most)
-- Responses that have not ended and that no known process runs, those that somebody waited for before those that may
-- wait. Of these, each project's turn comes by how many it has before it, running or waiting; then the oldest is first.
-- The condition is that of `responses_unfinished`.
SELECT f.project_id, f.id, f.epoch, f.waits FROM (
    SELECT
        r.project_id, r.id, r.epoch, r.seq, p.id AS known, r.background - r.background * r.cancelling AS waits,
        ROW_NUMBER() OVER (
            PARTITION BY r.project_id, r.background ORDER BY CASE WHEN p.id IS NULL THEN 1 ELSE 0 END, r.seq
        ) AS place
    FROM responses r LEFT JOIN processes p ON p.id = r.process
    WHERE r.status IN ('queued', 'in_progress')
) f
WHERE f.known IS NULL ORDER BY f.waits, f.place, f.seq LIMIT :most;

-- name: any_waits()^
-- One row if a response waits for a process that has room for it.
SELECT 1 FROM responses r
WHERE r.status IN ('queued', 'in_progress') AND r.process = '' AND r.background = 1 AND r.cancelling = 0 LIMIT 1;

-- name: take(id, epoch, process)!
-- Claim a response whose last claim is known.
UPDATE responses SET process = :process, epoch = epoch + 1, status = 'in_progress'
WHERE id = :id AND epoch = :epoch AND status IN ('queued', 'in_progress');

-- name: give_back(id, epoch)!
-- Leave a response to others.
UPDATE responses SET process = '' WHERE id = :id AND epoch = :epoch;

-- name: begin_response(id, epoch)!
-- A queued response is in progress.
UPDATE responses SET status = 'in_progress' WHERE id = :id AND epoch = :epoch AND status = 'queued';

-- name: claimed(id, epoch)^
-- What is stored of a claimed response, its items aside.
SELECT r.status, r.body, r.request, r.streamed, r.cancelling FROM responses r WHERE r.id = :id AND r.epoch = :epoch;

-- name: items_of(id, side)
-- The items of one side of a response in order, whoever asks.
SELECT i.type, i.body FROM items i WHERE i.response_id = :id AND i.side = :side ORDER BY i.position;

-- name: model_calls(id)
-- The model calls of a response in order.
SELECT c.turn, c.produced, c.usage FROM model_calls c WHERE c.response_id = :id ORDER BY c.number;

-- name: open_items(id)
-- Output indexes that were announced and not closed.
SELECT e.output_index FROM events e
WHERE e.response_id = :id AND e.type IN ('response.output_item.added', 'response.output_item.done')
GROUP BY e.output_index HAVING COUNT(*) = 1;

-- name: item_events(id, output_index)
-- The events of an item in order.
SELECT e.body FROM events e WHERE e.response_id = :id AND e.output_index = :output_index
ORDER BY e.sequence_number;

-- name: next_sequence(id)^
-- The number of the next event.
SELECT COALESCE(MAX(e.sequence_number) + 1, 0) FROM events e WHERE e.response_id = :id;

-- name: held(process)
-- The unfinished responses of a process.
SELECT r.id, r.project_id, r.epoch, r.cancelling FROM responses r
WHERE r.process = :process AND r.status IN ('queued', 'in_progress');

-- name: mark_cancelling(id, owner)!
-- Ask whoever runs a response to cancel it.
UPDATE responses SET cancelling = 1
WHERE id = :id AND project_id = :owner AND status IN ('queued', 'in_progress') AND cancelling = 0;

-- name: event_lengths(id, after, most)
-- The numbers of stored events in order, and how long these are.
SELECT e.sequence_number, LENGTH(e.body) FROM events e WHERE e.response_id = :id AND e.sequence_number > :after
ORDER BY e.sequence_number LIMIT :most;

-- name: events(id, after, last)
-- Stored events in order.
SELECT e.body FROM events e
WHERE e.response_id = :id AND e.sequence_number > :after AND e.sequence_number <= :last
ORDER BY e.sequence_number;

-- name: is_streamed(id, owner)^
-- Whether the events of a response are stored.
SELECT r.streamed FROM responses r WHERE r.id = :id AND r.project_id = :owner AND r.hidden = 0;

-- name: is_unfinished(id)^
-- One row if the response has not ended.
SELECT 1 FROM responses r WHERE r.id = :id AND r.status IN ('queued', 'in_progress');
