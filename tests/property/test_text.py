"""Analyzers: what holds for any text, and the words of UAX #29 against another implementation."""

import threading

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.text import LANGUAGES, get_analyzer, segmentation, word_break
from whimbrel.text.standard import fold

ALPHABET = (
    "abzAZ019_.:,;'\"-/@ \n\u00adéßİſσΣя\u0301\u200d\u200b\u2019\u203fאב״ก\u0e31人々東あアー가한"
    "ᄀ\u1161ㅋ٣٫अ\u094d😀👍🏽🇩🇪\u2764\ufe0f𝒜𠀀\uff21\uff71"
)
TEXTS = st.one_of(st.text(ALPHABET, max_size=60), st.text(max_size=40))
KNOWN = [None, *LANGUAGES]


@pytest.mark.parametrize("language", KNOWN)
@given(text=TEXTS)
def test_terms_are_bounded_and_never_empty(language, text):
    terms = get_analyzer(language).terms(text)
    assert all(0 < len(term) <= 255 for term in terms)
    assert terms == get_analyzer(language).terms(text)


@given(text=TEXTS)
def test_terms_of_standard_terms_are_those_terms(text):
    for term in get_analyzer(None).terms(text):
        assert get_analyzer(None).terms(term) == [term]


@pytest.mark.parametrize("language", KNOWN)
@given(one=TEXTS, other=TEXTS)
def test_lines_do_not_know_each_other(language, one, other):
    """Strings of an array are joined by line breaks, so none may change what another is found by."""
    terms = get_analyzer(language).terms
    assert terms(f"{one}\n{other}") == terms(one) + terms(other)


@given(text=st.text(st.characters(max_codepoint=127), max_size=80))
def test_ascii_is_cut_as_any_text(text):
    text = text.lower()
    general = segmentation._general_words(beyond_bmp=False)(text)
    assert segmentation.segment(text) == [word for word in general if word.strip("_")]


@given(text=st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=80))
def test_higher_planes_change_nothing_below(text):
    patterns = [segmentation._general_words(beyond_bmp=beyond) for beyond in (False, True)]
    assert patterns[0](text) == patterns[1](text)


SCRIPTS = (
    word_break.LETTER,
    word_break.HEBREW,
    word_break.DIGIT,
    word_break.KATAKANA,
    word_break.HAN,
    word_break.HIRAGANA,
    word_break.PICTOGRAPH,
)
WORD_LIKE = segmentation.character_class(" ".join(SCRIPTS), beyond_bmp=True)
CONNECTOR = segmentation.character_class(word_break.CONNECTOR, beyond_bmp=True)
MARK = segmentation.character_class(word_break.EXTENDER, beyond_bmp=True)
# Scripts of South East Asia come in runs here, and the narrow space parts. `regex` has a rule of its own for
# apostrophes, joins half a flag to what follows, and knows no modifier of an emoji without one.
DEPARTURES = regex.compile(
    "[\\p{LB=SA}\\p{WB=Regional_Indicator}\\p{Emoji_Modifier}\u202f'\u2018\u2019\ufe10-\ufe1f]"
)


@given(text=TEXTS)
def test_words_are_those_of_another_implementation(text):
    text = " " + DEPARTURES.sub(" ", fold(text))  # it joins a mark at the start to what follows
    parts = regex.split(r"\b", text, flags=regex.WORD | regex.VERSION1)
    # A part begins with what it is; marks alone, or after a space, are no word.
    expected = [
        part for part in parts if regex.search(f"^(?:{CONNECTOR}{MARK}*)*{WORD_LIKE}", part)
    ]
    assert segmentation.segment(text) == expected


def test_threads_share_analyzers():
    texts = [f"言語{n}を学ぶ学生 language{n} 서울에서 배우고 数据库{n}搜索" for n in range(300)]
    expected = {
        language: [get_analyzer(language).terms(text) for text in texts] for language in KNOWN
    }
    wrong: list[str | None] = []

    def analyze() -> None:
        wrong.extend(
            language
            for language in KNOWN
            if [get_analyzer(language).terms(text) for text in texts] != expected[language]
        )

    threads = [threading.Thread(target=analyze) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
