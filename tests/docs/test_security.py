"""The page of attacks names tests that exist."""

import re

from tests.docs.pages import prose_of
from tests.tidy.source_tree import ROOT

PAGE = ROOT / "docs/security.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_attack_has_tests_that_exist():
    text = prose_of(PAGE)
    found = TEST.findall(text)
    assert len(found) > 60
    for path, name in found:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), (
            path,
            name,
        )
    attacks = text.partition("## Attacks that were tried")[2]
    rows = [line for line in attacks.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| attack |")]
    assert all(TEST.search(row) for row in rows)
