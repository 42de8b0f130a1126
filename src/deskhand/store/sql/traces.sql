-- Traces of clients, and their spans. Ids are the clients': unique in a project, and in a trace.

-- name: put_trace(id, owner, created_at, group_id, body)!
-- A trace, or another telling of it.
INSERT INTO traces (id, project_id, created_at, group_id, body)
VALUES (:id, :owner, :created_at, :group_id, :body)
ON CONFLICT (project_id, id) DO UPDATE SET group_id = excluded.group_id, body = excluded.body;

-- name: mention_trace(id, owner, created_at, body)!
-- A trace of which only spans are known yet.
INSERT INTO traces (id, project_id, created_at, body)
VALUES (:id, :owner, :created_at, :body)
ON CONFLICT (project_id, id) DO NOTHING;

-- name: trace_with_count(id, owner)^
-- Where the spans of a trace belong, and how many there are.
SELECT t.seq, (SELECT COUNT(*) FROM trace_spans s WHERE s.trace_seq = t.seq)
FROM traces t
WHERE t.id = :id AND t.project_id = :owner;

-- name: has_span(trace_seq, id)^
-- Whether a span is there.
SELECT 1 FROM trace_spans WHERE trace_seq = :trace_seq AND id = :id;

-- name: put_spans(trace_seq, id, created_at, response_id, body)*!
-- Spans, or other tellings of them.
INSERT INTO trace_spans (trace_seq, id, created_at, response_id, body)
VALUES (:trace_seq, :id, :created_at, :response_id, :body)
ON CONFLICT (trace_seq, id) DO UPDATE SET response_id = excluded.response_id, body = excluded.body;

-- name: trace(id, owner)^
-- One trace.
SELECT id, created_at, body FROM traces WHERE id = :id AND project_id = :owner;

-- name: trace_place(id, owner)^
-- Where a trace stands in lists.
SELECT created_at, seq FROM traces WHERE id = :id AND project_id = :owner;

-- name: newer_traces(owner, group_id, response_id, created_at, seq, limit)
-- Traces after a place, oldest first.
SELECT t.id, t.created_at, t.body
FROM traces t
WHERE t.project_id = :owner
AND (CAST(:group_id AS TEXT) IS NULL OR t.group_id = :group_id)
AND (
    CAST(:response_id AS TEXT) IS NULL
    OR t.seq IN (SELECT s.trace_seq FROM trace_spans s WHERE s.response_id = :response_id)
)
AND (t.created_at, t.seq) > (:created_at, :seq)
ORDER BY t.created_at, t.seq
LIMIT :limit;

-- name: older_traces(owner, group_id, response_id, created_at, seq, limit)
-- Traces before a place, newest first.
SELECT t.id, t.created_at, t.body
FROM traces t
WHERE t.project_id = :owner
AND (CAST(:group_id AS TEXT) IS NULL OR t.group_id = :group_id)
AND (
    CAST(:response_id AS TEXT) IS NULL
    OR t.seq IN (SELECT s.trace_seq FROM trace_spans s WHERE s.response_id = :response_id)
)
AND (t.created_at, t.seq) < (:created_at, :seq)
ORDER BY t.created_at DESC, t.seq DESC
LIMIT :limit;

-- name: span_place(id, owner, trace_id)^
-- Where a span stands in the list of its trace.
SELECT s.created_at, s.seq
FROM trace_spans s JOIN traces t ON t.seq = s.trace_seq
WHERE s.id = :id AND t.id = :trace_id AND t.project_id = :owner;

-- name: newer_spans(owner, trace_id, created_at, seq, limit)
-- Spans of a trace after a place, oldest first.
SELECT s.id, s.created_at, s.response_id, s.body
FROM trace_spans s JOIN traces t ON t.seq = s.trace_seq
WHERE t.id = :trace_id AND t.project_id = :owner AND (s.created_at, s.seq) > (:created_at, :seq)
ORDER BY s.created_at, s.seq
LIMIT :limit;

-- name: older_spans(owner, trace_id, created_at, seq, limit)
-- Spans of a trace before a place, newest first.
SELECT s.id, s.created_at, s.response_id, s.body
FROM trace_spans s JOIN traces t ON t.seq = s.trace_seq
WHERE t.id = :trace_id AND t.project_id = :owner AND (s.created_at, s.seq) < (:created_at, :seq)
ORDER BY s.created_at DESC, s.seq DESC
LIMIT :limit;

-- name: delete_trace(id, owner)!
-- Forget a trace, its spans with it.
DELETE FROM traces WHERE id = :id AND project_id = :owner;
