"""The storage engine: vector buckets, vector indexes and their records in an object store."""
