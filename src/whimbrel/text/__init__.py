"""Text analysis: what words a text is found by.

1. The terms of a text follow from the text, the language and the analyzer's id alone.
2. The same analyzer reads what is stored and what is asked for.
"""

from whimbrel.text.analyzer import (
    LANGUAGES,
    Analyzer,
    get_analyzer,
    get_analyzer_id,
    is_loaded,
)

__all__ = ["LANGUAGES", "Analyzer", "get_analyzer", "get_analyzer_id", "is_loaded"]
