-- Vector stores, their files, batches and chunks. What finds chunks differs by database: see the folders.

-- name: insert_store(id, owner, name, description, metadata, created_at, last_active_at, expires_days, expires_at, embedding_model)!
-- A new store.
INSERT INTO vector_stores
    (id, project_id, name, description, metadata, created_at, last_active_at, expires_days, expires_at,
    embedding_model, dimensions, revision)
VALUES (:id, :owner, :name, :description, :metadata, :created_at, :last_active_at, :expires_days, :expires_at,
    :embedding_model, 0, 0);

-- name: store(id, owner)^
-- One store.
SELECT seq, id, project_id, name, description, metadata, created_at, last_active_at, expires_days, expires_at,
    embedding_model, dimensions, revision,
    EXISTS (SELECT 1 FROM vector_store_chunks c WHERE c.store_seq = vector_stores.seq AND c.bare = 1)
FROM vector_stores
WHERE id = :id AND project_id = :owner;

-- name: store_place(id, owner)^
-- Where a store stands in lists.
SELECT created_at, seq FROM vector_stores WHERE id = :id AND project_id = :owner;

-- name: newer_stores(owner, created_at, seq, limit)
-- Stores after a place, oldest first.
SELECT seq, id, project_id, name, description, metadata, created_at, last_active_at, expires_days, expires_at,
    embedding_model, dimensions, revision,
    EXISTS (SELECT 1 FROM vector_store_chunks c WHERE c.store_seq = vector_stores.seq AND c.bare = 1)
FROM vector_stores
WHERE project_id = :owner AND (created_at, seq) > (:created_at, :seq)
ORDER BY created_at, seq
LIMIT :limit;

-- name: older_stores(owner, created_at, seq, limit)
-- Stores before a place, newest first.
SELECT seq, id, project_id, name, description, metadata, created_at, last_active_at, expires_days, expires_at,
    embedding_model, dimensions, revision,
    EXISTS (SELECT 1 FROM vector_store_chunks c WHERE c.store_seq = vector_stores.seq AND c.bare = 1)
FROM vector_stores
WHERE project_id = :owner AND (created_at, seq) < (:created_at, :seq)
ORDER BY created_at DESC, seq DESC
LIMIT :limit;

-- name: update_store(store, now, name, metadata, expires_days)!
-- What callers may change; nulls stay.
UPDATE vector_stores
SET name = COALESCE(CAST(:name AS TEXT), name), metadata = COALESCE(CAST(:metadata AS TEXT), metadata),
    expires_days = COALESCE(CAST(:expires_days AS INTEGER), expires_days)
WHERE seq = :store AND (expires_at IS NULL OR expires_at > :now);

-- name: touch_store(store, now, day)!
-- A store is used.
UPDATE vector_stores
SET last_active_at = :now,
    expires_at = CASE WHEN expires_days > 0 THEN :now + expires_days * CAST(:day AS BIGINT) ELSE NULL END
WHERE seq = :store AND (expires_at IS NULL OR expires_at > :now);

-- name: revise_store(store)!
-- What a search may find has changed.
UPDATE vector_stores SET revision = revision + 1 WHERE seq = :store;

-- name: delete_store(store)!
-- Forget a store.
DELETE FROM vector_stores WHERE seq = :store;

-- name: delete_batches(store)!
-- Forget the batches of a store.
DELETE FROM vector_store_batches WHERE store_seq = :store;

-- name: trash_files(store)!
-- The chunks of a store's files are to be forgotten.
INSERT INTO vector_store_trash (file_seq) SELECT f.seq FROM vector_store_files f WHERE f.store_seq = :store
ON CONFLICT (file_seq) DO NOTHING;

-- name: delete_files(store)!
-- Forget the files of a store.
DELETE FROM vector_store_files WHERE store_seq = :store;

-- name: trash_file(store, file_id)!
-- The chunks of a file in a store are to be forgotten.
INSERT INTO vector_store_trash (file_seq)
SELECT f.seq FROM vector_store_files f WHERE f.store_seq = :store AND f.file_id = :file_id
ON CONFLICT (file_seq) DO NOTHING;

-- name: delete_file(store, file_id)!
-- Take a file out of a store.
DELETE FROM vector_store_files WHERE store_seq = :store AND file_id = :file_id;

-- name: revise_stores_of_file(owner, file_id)!
-- What searches may find changes in every store with a file.
UPDATE vector_stores SET revision = revision + 1
WHERE seq IN (SELECT f.store_seq FROM vector_store_files f WHERE f.file_id = :file_id AND f.project_id = :owner);

-- name: trash_file_everywhere(owner, file_id)!
-- The chunks of a file are to be forgotten.
INSERT INTO vector_store_trash (file_seq)
SELECT f.seq FROM vector_store_files f WHERE f.file_id = :file_id AND f.project_id = :owner
ON CONFLICT (file_seq) DO NOTHING;

-- name: delete_file_everywhere(owner, file_id)!
-- Take a file out of every store.
DELETE FROM vector_store_files WHERE file_id = :file_id AND project_id = :owner;

-- name: counted(store)
-- Files of a store by state.
SELECT status, COUNT(*), CAST(SUM(usage_bytes) AS BIGINT) FROM vector_store_files WHERE store_seq = :store
GROUP BY status;

-- name: counted_batch(batch)
-- Files of a batch by state.
SELECT status, COUNT(*), CAST(SUM(usage_bytes) AS BIGINT) FROM vector_store_files WHERE batch_seq = :batch
GROUP BY status;

-- name: file_count(store)^
-- How many files a store has.
SELECT COUNT(*) FROM vector_store_files WHERE store_seq = :store;

-- name: insert_files*!
-- Files to index.
INSERT INTO vector_store_files
    (store_seq, batch_seq, project_id, file_id, filename, created_at, status, error_code, error_message, attributes,
    chunk_tokens, overlap_tokens, usage_bytes, attempts, lease_until, due_at)
VALUES (:store, :batch, :owner, :file_id, :filename, :created_at, 'in_progress', '', '', :attributes, :chunk_tokens,
    :overlap_tokens, 0, 0, 0, 0);

-- name: store_file(store, file_id)^
-- One file of a store.
SELECT seq, file_id, filename, created_at, status, error_code, error_message, attributes, chunk_tokens,
    overlap_tokens, usage_bytes
FROM vector_store_files
WHERE store_seq = :store AND file_id = :file_id;

-- name: store_file_place(id, owner, store)^
-- Where a file stands in lists.
SELECT created_at, seq FROM vector_store_files WHERE store_seq = :store AND file_id = :id AND project_id = :owner;

-- name: newer_store_files(store, batch, status, created_at, seq, limit)
-- Files of a store, or of a batch, after a place, oldest first.
SELECT seq, file_id, filename, created_at, status, error_code, error_message, attributes, chunk_tokens,
    overlap_tokens, usage_bytes
FROM vector_store_files
WHERE store_seq = :store AND (created_at, seq) > (:created_at, :seq)
AND (CAST(:batch AS BIGINT) IS NULL OR batch_seq = :batch) AND (CAST(:status AS TEXT) IS NULL OR status = :status)
ORDER BY created_at, seq
LIMIT :limit;

-- name: older_store_files(store, batch, status, created_at, seq, limit)
-- Files of a store, or of a batch, before a place, newest first.
SELECT seq, file_id, filename, created_at, status, error_code, error_message, attributes, chunk_tokens,
    overlap_tokens, usage_bytes
FROM vector_store_files
WHERE store_seq = :store AND (created_at, seq) < (:created_at, :seq)
AND (CAST(:batch AS BIGINT) IS NULL OR batch_seq = :batch) AND (CAST(:status AS TEXT) IS NULL OR status = :status)
ORDER BY created_at DESC, seq DESC
LIMIT :limit;

-- name: set_attributes(store, file_id, attributes)!
-- Other attributes of a file.
UPDATE vector_store_files SET attributes = :attributes WHERE store_seq = :store AND file_id = :file_id;

-- name: insert_batch(id, store, created_at)!
-- A new batch.
INSERT INTO vector_store_batches (id, store_seq, created_at, cancelled) VALUES (:id, :store, :created_at, 0);

-- name: batch(id, store)^
-- One batch of a store.
SELECT seq, id, created_at, cancelled FROM vector_store_batches WHERE id = :id AND store_seq = :store;

-- name: cancel_batch(batch)!
-- A batch is cancelled.
UPDATE vector_store_batches SET cancelled = 1 WHERE seq = :batch;

-- name: trash_files_of_batch(batch)!
-- What there is of a batch's files that are not indexed is to be forgotten.
INSERT INTO vector_store_trash (file_seq)
SELECT f.seq FROM vector_store_files f WHERE f.batch_seq = :batch AND f.status = 'in_progress'
ON CONFLICT (file_seq) DO NOTHING;

-- name: cancel_files_of_batch(batch)!
-- The files of a batch that are not indexed will not be.
UPDATE vector_store_files SET status = 'cancelled' WHERE batch_seq = :batch AND status = 'in_progress';

-- name: content(file, after, limit)
-- Chunks of a file, in order.
SELECT seq, repeated, text FROM vector_store_chunks WHERE file_seq = :file AND seq > :after ORDER BY seq LIMIT :limit;

-- name: due_jobs(now, most)
-- Files to index that nobody holds, the longest due first.
SELECT f.seq, f.store_seq, f.project_id, f.file_id, f.filename, f.chunk_tokens, f.overlap_tokens, f.attempts,
    s.embedding_model, s.dimensions
FROM vector_store_files f JOIN vector_stores s ON s.seq = f.store_seq
WHERE f.status = 'in_progress' AND f.due_at <= :now AND f.lease_until <= :now
ORDER BY f.due_at, f.seq
LIMIT :most;

-- name: claim_job(file, attempts, now, lease_until)!
-- Begin a job, if nobody has since it was looked at.
UPDATE vector_store_files SET attempts = attempts + 1, lease_until = :lease_until
WHERE seq = :file AND status = 'in_progress' AND attempts = :attempts AND lease_until <= :now;

-- name: renew_job(file, attempts, lease_until)!
-- Hold a job for longer.
UPDATE vector_store_files SET lease_until = :lease_until
WHERE seq = :file AND status = 'in_progress' AND attempts = :attempts;

-- name: held(file, attempts)^
-- Whether a job is still held.
SELECT 1 FROM vector_store_files WHERE seq = :file AND status = 'in_progress' AND attempts = :attempts;

-- name: first_dimensions(store, dimensions)!
-- The size of a store's vectors, once there is one.
UPDATE vector_stores SET dimensions = :dimensions WHERE seq = :store AND dimensions = 0;

-- name: dimensions(store)^
-- The size of a store's vectors.
SELECT dimensions FROM vector_stores WHERE seq = :store;

-- name: insert_chunks*!
-- Chunks of a file.
INSERT INTO vector_store_chunks (store_seq, file_seq, repeated, text, spelled, vector, bare)
VALUES (:store, :file, :repeated, :text, :spelled, :vector, :bare);

-- name: bare_files(model, now, most)
-- Indexed files with chunks that could have vectors of a model, which nobody holds.
SELECT f.seq, f.store_seq, f.file_id
FROM vector_store_files f JOIN vector_stores s ON s.seq = f.store_seq
WHERE s.embedding_model IN ('', :model) AND f.status = 'completed' AND f.lease_until <= :now
AND EXISTS (
    SELECT 1 FROM vector_store_chunks c WHERE c.store_seq = f.store_seq AND c.file_seq = f.seq AND c.bare = 1
)
ORDER BY f.seq
LIMIT :most;

-- name: hold_file(file, now, lease_until)!
-- Begin to make vectors for a file, if nobody has since it was looked at.
UPDATE vector_store_files SET lease_until = :lease_until
WHERE seq = :file AND status = 'completed' AND lease_until <= :now;

-- name: bare_chunks(file, most)
-- Chunks of a file that could have vectors.
SELECT seq, text FROM vector_store_chunks WHERE file_seq = :file AND bare = 1 ORDER BY seq LIMIT :most;

-- name: take_model(store, model, dimensions)!
-- A store without a model has one from its first vectors on.
UPDATE vector_stores SET embedding_model = :model, dimensions = :dimensions
WHERE seq = :store AND embedding_model IN ('', :model) AND dimensions IN (0, :dimensions);

-- name: grow_file(file, bytes, lease_until)!
-- A file takes more, and is held for longer.
UPDATE vector_store_files SET usage_bytes = usage_bytes + :bytes, lease_until = :lease_until
WHERE seq = :file AND status = 'completed';

-- name: give_vectors*!
-- Vectors of chunks that had none.
UPDATE vector_store_chunks SET vector = :vector, bare = 0 WHERE seq = :seq;

-- name: leave_bare(file)!
-- The rest of a file will have no vectors.
UPDATE vector_store_chunks SET bare = 0 WHERE file_seq = :file AND bare = 1;

-- name: let_go(file)!
-- Nobody holds a file.
UPDATE vector_store_files SET lease_until = 0 WHERE seq = :file AND status = 'completed';

-- name: finish_job(file, attempts, usage_bytes)!
-- A file is indexed.
UPDATE vector_store_files SET status = 'completed', usage_bytes = :usage_bytes, lease_until = 0
WHERE seq = :file AND status = 'in_progress' AND attempts = :attempts;

-- name: fail_job(file, attempts, code, message)!
-- A file cannot be indexed.
UPDATE vector_store_files SET status = 'failed', error_code = :code, error_message = :message, lease_until = 0
WHERE seq = :file AND status = 'in_progress' AND attempts = :attempts;

-- name: postpone_job(file, attempts, due_at)!
-- A job is let go for some time.
UPDATE vector_store_files SET due_at = :due_at, lease_until = 0
WHERE seq = :file AND status = 'in_progress' AND attempts = :attempts;

-- name: trash_one(file)!
-- What there is of a file is to be forgotten.
INSERT INTO vector_store_trash (file_seq) VALUES (:file) ON CONFLICT (file_seq) DO NOTHING;

-- name: trashed()^
-- A file whose chunks are to be forgotten.
SELECT file_seq FROM vector_store_trash ORDER BY file_seq LIMIT 1;

-- name: delete_trashed(file)!
-- A file's chunks are forgotten.
DELETE FROM vector_store_trash WHERE file_seq = :file;

-- name: delete_chunks(file, most)!
-- Forget chunks of a file.
DELETE FROM vector_store_chunks
WHERE seq IN (SELECT c.seq FROM vector_store_chunks c WHERE c.file_seq = :file ORDER BY c.seq LIMIT :most);

-- name: expired_store(now)^
-- A store whose time has passed, with files in it.
SELECT s.seq FROM vector_stores s
WHERE s.expires_at <= :now AND EXISTS (SELECT 1 FROM vector_store_files f WHERE f.store_seq = s.seq)
LIMIT 1;

-- name: indexed_files(store)
-- The files of a store that searches find.
SELECT seq, attributes FROM vector_store_files WHERE store_seq = :store AND status = 'completed' ORDER BY seq;

-- name: vectors_of_store(store, after, limit)
-- Vectors of a store's chunks, in order.
SELECT seq, file_seq, vector FROM vector_store_chunks
WHERE store_seq = :store AND seq > :after AND vector IS NOT NULL
ORDER BY seq
LIMIT :limit;

-- name: vectors_of_file(file, after, limit)
-- Vectors of a file's chunks, in order.
SELECT seq, file_seq, vector FROM vector_store_chunks
WHERE file_seq = :file AND seq > :after AND vector IS NOT NULL
ORDER BY seq
LIMIT :limit;

-- name: passage(seq)^
-- A chunk and the file that it is of.
SELECT c.seq, f.file_id, f.filename, f.attributes, c.text
FROM vector_store_chunks c JOIN vector_store_files f ON f.seq = c.file_seq
WHERE c.seq = :seq AND f.status = 'completed';
