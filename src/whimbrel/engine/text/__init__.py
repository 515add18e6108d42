"""Full-text search: postings of the texts in metadata, in segments and in the tail. `docs/concepts/text-search.md`."""
