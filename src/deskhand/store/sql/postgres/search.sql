-- Chunks by their words, through the stored tsvector, and by their vectors, through pgvector.

-- name: by_words(store, match, files, limit)
-- Chunks with some of the words; `files` is an array as text, or null for all.
SELECT c.seq, CAST(ts_rank_cd(c.words, q, 1) AS DOUBLE PRECISION) AS score
FROM websearch_to_tsquery('english', :match) q, vector_store_chunks c
JOIN vector_store_files f ON f.seq = c.file_seq
WHERE c.words @@ q AND c.store_seq = :store AND f.status = 'completed'
AND (CAST(:files AS TEXT) IS NULL OR c.file_seq = ANY (CAST(:files AS BIGINT[])))
ORDER BY score DESC, c.seq
LIMIT :limit;

-- name: has_vectors()^
-- Whether chunks have vectors that pgvector can search.
SELECT 1 FROM pg_attribute
WHERE attrelid = to_regclass('vector_store_chunks') AND attname = 'embedding' AND NOT attisdropped;

-- name: by_vector(store, vector, files, limit)
-- Chunks with near vectors, all of them looked at: a filter must not hide near ones, as it does from an index.
SELECT c.seq, 1 - (c.embedding <=> CAST(:vector AS vector)) AS score
FROM vector_store_chunks c JOIN vector_store_files f ON f.seq = c.file_seq
WHERE c.store_seq = :store AND c.embedding IS NOT NULL AND f.status = 'completed'
AND (CAST(:files AS TEXT) IS NULL OR c.file_seq = ANY (CAST(:files AS BIGINT[])))
ORDER BY c.embedding <=> CAST(:vector AS vector), c.seq
LIMIT :limit;

-- name: insert_chunks*!
-- Chunks of a file, with vectors as pgvector writes them.
INSERT INTO vector_store_chunks (store_seq, file_seq, repeated, text, spelled, embedding, bare)
VALUES (:store, :file, :repeated, :text, :spelled, CAST(:vector AS vector), :bare);

-- name: give_vectors*!
-- Vectors of chunks that had none, as pgvector writes them.
UPDATE vector_store_chunks SET embedding = CAST(:vector AS vector), bare = 0 WHERE seq = :seq;
