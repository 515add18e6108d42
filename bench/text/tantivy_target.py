"""tantivy in this process, with what it is for: an inverted index in memory, of one segment.

Terms come in two ways. By its own analysis, as its users have it: words, lower case, none of more than 40 characters,
the stop words of our English analyzer, Snowball's English stemmer. Or by our analyzer, so that scores can be compared:
it keeps lengths in one byte, so they agree to some percent, and multiplies all by k1 + 1.
"""

from collections.abc import Sequence

from bench.text.corpus import key_of

FIELD = "text"
WRITER_BYTES = 256 * 2**20
LONG_CHARACTERS = 40
SCALE = 2.2  # k1 + 1


class TantivyTarget:
    """An index over texts.

    Attributes:
        name: for the report.
    """

    def __init__(self, texts: Sequence[str], *, has_own_analysis: bool) -> None:
        """Builds the index.

        Raises:
            ImportError: tantivy is not installed.
        """
        import tantivy

        from whimbrel.text import get_analyzer

        self.name = "tantivy" if has_own_analysis else "tantivy over our terms"
        self._analyzer = None if has_own_analysis else get_analyzer("en")
        self._tantivy = tantivy
        builder = tantivy.SchemaBuilder()
        builder.add_text_field(FIELD, tokenizer_name="chosen", index_option="freq")
        builder.add_integer_field("number", fast=True)
        self._index = tantivy.Index(builder.build())
        self._index.register_tokenizer("chosen", self._text_analyzer())
        writer = self._index.writer(WRITER_BYTES, 1)
        for number, text in enumerate(texts):
            writer.add_document(tantivy.Document(**{FIELD: self._terms(text), "number": number}))
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()

    async def search(self, text: str, top_k: int) -> list[tuple[str, float]]:
        """Returns keys and scores, best first; scores as ours are scaled."""
        query = self._index.parse_query(self._terms(text), [FIELD])
        hits = self._searcher.search(query, top_k, count=False).hits
        numbers = self._searcher.fast_field_values("number", [address for _, address in hits])
        return [
            (key_of(number), score / SCALE)
            for number, (score, _) in zip(numbers, hits, strict=True)
        ]

    def _terms(self, text: str) -> str:
        return text if self._analyzer is None else " ".join(self._analyzer.terms(text))

    def _text_analyzer(self) -> object:
        from whimbrel.text.stop_words import STOP_WORDS

        tantivy = self._tantivy
        if self._analyzer is not None:
            return tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
        builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        for each in (
            tantivy.Filter.remove_long(LONG_CHARACTERS),
            tantivy.Filter.lowercase(),
            tantivy.Filter.custom_stopword(sorted(STOP_WORDS["en"])),
            tantivy.Filter.stemmer("english"),
        ):
            builder = builder.filter(each)
        return builder.build()
