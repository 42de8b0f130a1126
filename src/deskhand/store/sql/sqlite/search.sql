-- Chunks by their words, through FTS5, whose score is the better the lower it is.

-- name: by_words(match, limit)
-- Chunks with some of the words. Those of files that are not indexed yet have still to be taken out.
SELECT c.seq, t.score
FROM (
    SELECT rowid AS seq, -bm25(vector_store_words, 0.0, 1.0) AS score
    FROM vector_store_words
    WHERE vector_store_words MATCH :match
    ORDER BY bm25(vector_store_words, 0.0, 1.0), rowid
    LIMIT :limit
) t
JOIN vector_store_chunks c ON c.seq = t.seq
JOIN vector_store_files f ON f.seq = c.file_seq
WHERE f.status = 'completed'
ORDER BY t.score DESC, c.seq;

-- name: by_words_of(match, store, limit)
-- The same, with each chunk's file looked at before they are counted.
SELECT c.seq, -bm25(vector_store_words, 0.0, 1.0) AS score
FROM vector_store_words
JOIN vector_store_chunks c ON c.seq = vector_store_words.rowid
WHERE vector_store_words MATCH :match
AND c.file_seq IN (SELECT f.seq FROM vector_store_files f WHERE f.store_seq = :store AND f.status = 'completed')
ORDER BY score DESC, c.seq
LIMIT :limit;

-- name: by_words_in(match, files, limit)
-- The same in some files; `files` is a JSON array.
SELECT c.seq, -bm25(vector_store_words, 0.0, 1.0) AS score
FROM vector_store_words
JOIN vector_store_chunks c ON c.seq = vector_store_words.rowid
WHERE vector_store_words MATCH :match AND c.file_seq IN (SELECT j.value FROM json_each(:files) j)
ORDER BY score DESC, c.seq
LIMIT :limit;
