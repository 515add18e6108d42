"""Documents of many kinds into passages that a model of embeddings can read.

From above: `walking` says which files there are, `reading` makes text of one, `splitting` cuts text into passages, and
`passages` names them. No file is held whole but HTML, and nothing here speaks to a server or store.
"""

from whimbrel.documents.errors import DocumentError
from whimbrel.documents.passages import Document, Passage, passages_of
from whimbrel.documents.reading import Kind, kind_of
from whimbrel.documents.splitting import Measure, Splitter
from whimbrel.documents.walking import Selection, walk

__all__ = [
    "Document",
    "DocumentError",
    "Kind",
    "Measure",
    "Passage",
    "Selection",
    "Splitter",
    "kind_of",
    "passages_of",
    "walk",
]
