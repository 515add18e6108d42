"""What each language makes of examples, and what happens where a language's packages are missing."""

import json
from importlib import metadata
from pathlib import Path

import pytest

from whimbrel.core.errors import InvalidRequestError, LanguageUnavailableError
from whimbrel.text import LANGUAGES, analyzer, get_analyzer, get_analyzer_id, is_loaded
from whimbrel.text.stop_words import STOP_WORDS

GOLDEN = json.loads(Path(__file__).with_name("analysis.json").read_text())
EXAMPLES = [
    (None if language == "standard" else language, text, terms)
    for language, examples in GOLDEN.items()
    for text, terms in examples
]


@pytest.mark.parametrize(("language", "text", "terms"), EXAMPLES)
def test_terms_are_the_pinned_ones(language, text, terms):
    """A change here changes what stored indexes hold: it needs another version in the analyzer's id."""
    assert get_analyzer(language).terms(text) == terms.split()


def test_every_language_has_examples_and_one_analyzer():
    assert set(GOLDEN) == {"standard", *LANGUAGES}
    for language in (None, *LANGUAGES):
        analyzer = get_analyzer(language)
        assert analyzer is get_analyzer(language)
        assert analyzer.id.startswith(f"{language or 'standard'}.")
    assert len({get_analyzer(language).id for language in (None, *LANGUAGES)}) == 11


def test_ids_name_what_the_terms_depend_on():
    assert get_analyzer(None).id == "standard.1"
    assert get_analyzer("nl").id == "nl.1"
    assert "sudachidict-small" in get_analyzer("ja").id


def forget():
    """Has analyzers made anew, and looked for anew."""
    analyzer._loaded.clear()
    get_analyzer_id.cache_clear()


def test_an_id_takes_no_dictionary():
    forget()
    ids = {language: get_analyzer_id(language) for language in (None, *LANGUAGES)}
    assert not any(is_loaded(language) for language in ("zh", "ja", "ko"))
    assert ids == {language: get_analyzer(language).id for language in ids}
    assert all(is_loaded(language) for language in ids)


def test_a_language_without_its_packages_is_refused(monkeypatch):
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    forget()
    try:
        with pytest.raises(
            LanguageUnavailableError, match=r'"ko".*lindera.*whimbrel\[cjk\]'
        ) as error:
            get_analyzer("ko")
        with pytest.raises(LanguageUnavailableError):
            get_analyzer_id("ko")
        assert isinstance(error.value, InvalidRequestError)
        assert get_analyzer(None).terms("한국어") == ["한국어"]
    finally:
        forget()


def test_what_is_remembered_of_words_is_bounded(monkeypatch):
    monkeypatch.setattr("whimbrel.text.stemming._STEMS_MAX", 10)
    forget()
    try:
        english = get_analyzer("en")
        text = " ".join(f"words{number}" for number in range(100))
        assert english.terms(text) == english.terms(text)
        assert len(english._stems) <= 10
        english.terms("x" * 100)
        assert max(map(len, english._stems)) < 100
    finally:
        forget()


@pytest.mark.parametrize("language", ["en", "fr", "es", "pt", "it", "de", "nl"])
def test_stop_words_alone_leave_nothing(language):
    assert get_analyzer(language).terms(" ".join(sorted(STOP_WORDS[language]))) == []


@pytest.mark.parametrize("language", ["zh", "ja", "ko"])
@pytest.mark.parametrize(
    "unit", ["人", "ー", "ア", "の", "가", "하다", "ᄏ", "々", "ヽ", "가 ", "a人"]
)
def test_dictionaries_take_long_runs(language, unit):
    terms = get_analyzer(language).terms((unit * 40_000)[:40_000])
    assert all(0 < len(term) <= 255 for term in terms)
