"""Reading documents, made by real libraries and by enemies."""
