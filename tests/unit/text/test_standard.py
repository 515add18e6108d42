"""The standard analyzer's words."""

import pytest

from whimbrel.text import get_analyzer


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        (" \n\t", []),
        ("The quick brown-fox, v2.0!", "the quick brown fox v2.0"),
        ("don't O'Neill rock'n'roll 'quoted' dogs'", "don't o'neill rock'n'roll quoted dogs"),
        ("don\u2019t", "don't"),
        ("1,000.50 3.14 10,20;30 2.b a.2", "1,000.50 3.14 10,20;30 2 b a 2"),
        ("snake_case __init__ _ ___ a_1", "snake_case __init__ a_1"),
        ("C++ C# .NET node.js", "c c net node.js"),
        ("https://example.org/a?b=c", "https example.org a b c"),
        ("me@example.org", "me example.org"),
        ("use::searching role:program", "use searching role:program"),
        ("\u00c9COLE e\u0301cole na\u00efve", "\u00e9cole \u00e9cole na\u00efve"),
        ("\u0130STANBUL \u0141\u00d3D\u0179 STRASSE Stra\u00dfe", "istanbul łódź strasse straße"),
        ("ex\u00adam\u00adple zero\u200bwidth bom\ufeff", "example zero width bom"),
        ("quoi\u202f? 10\u202f000", "quoi 10 000"),
        ("я\u0301 Москва", "я\u0301 москва"),
        ("東京タワーへ行く", "東 京 タワー へ 行 く"),
        ("人々abc中文12", "人 々abc 中 文 12"),
        ("한국어를 배웁니다", "한국어를 배웁니다"),
        ("ภาษาไทย", "ภาษาไทย"),
        ("שלום עולם צה\"ל ג'ינס", "שלום עולם צה\"ל ג'ינס"),
        ("مرحبا بالعالم ٣٫١٤", "مرحبا بالعالم ٣٫١٤"),
        (
            "😀 👨‍👩‍👧 ❤️ 👍🏽 🇩🇪🇫🇷 ©",
            "😀 👨‍👩‍👧 ❤ 👍🏽 🇩🇪 🇫🇷",
        ),
        ("𝒜 𠀀𠀁", "𝒜 𠀀 𠀁"),
        ("abcカタカナdef_カナ", "abc カタカナ def_カナ"),
    ],
)
def test_words_are_those_of_unicode(text, terms):
    assert get_analyzer(None).terms(text) == (terms.split() if terms else [])


def test_long_words_are_cut():
    assert get_analyzer(None).terms("x" * 600) == ["x" * 255, "x" * 255, "x" * 90]
    assert get_analyzer(None).terms("é" * 256) == ["é" * 255, "é"]


def test_english_words_are_reduced_to_stems():
    terms = get_analyzer("en").terms(
        "The dog\u2019s owners were Running; it is the fastest of dogs'"
    )
    assert terms == ["dog", "owner", "were", "run", "fastest", "dog"]


def test_a_language_has_one_analyzer():
    assert get_analyzer("en") is get_analyzer("en")
    assert get_analyzer(None).id == "standard.1"
    assert get_analyzer("en").id.startswith("en.1+")
