"""The page of Bedrock says what the code says: every route, header, model, member and error."""

import re

import pytest

from tests.tidy.source_tree import ROOT
from whimbrel.embeddings.catalog import MODELS
from whimbrel.wire.bedrock import cohere, invoke, titan_text
from whimbrel.wire.bedrock.errors import STATUSES
from whimbrel.wire.bedrock.quantize import QUANTIZERS
from whimbrel.wire.bedrock.routes import ROUTES
from whimbrel.wire.options import WireOptions

TEXT = (ROOT / "docs/reference/bedrock.md").read_text()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_is_told(route):
    part = r"\{\w+\}" if route.has_part else ""
    path = re.escape(route.prefix.decode()) + part + re.escape(route.suffix.decode())
    row = rf"^\| `{route.method} {path}` \| {route.name} \| `{route.action}` \|"
    assert re.search(row, TEXT, re.MULTILINE)


def test_every_model_of_the_catalog_is_told():
    assert [entry.model_id for entry in MODELS if f"`{entry.model_id}`" not in TEXT] == []


def test_every_error_is_told():
    told = dict(re.findall(r"^\| `(\w+Exception)` \| (\d+) \|", TEXT, re.MULTILINE))
    assert told == {code: str(status) for code, status in STATUSES.items()}


def test_headers_limits_and_members_are_told():
    headers = (invoke.MODEL_HEADER, invoke.TOKENS_HEADER, invoke.LATENCY_HEADER)
    for name in (*headers, "x-whimbrel-truncated", *QUANTIZERS, *cohere.SOURCES_V4):
        assert f"`{name}`" in TEXT
    for limit in (
        WireOptions().model_body_bytes_max,
        titan_text.CHARS_MAX,
        titan_text.TOKENS_MAX,
        cohere.V3_CHARS_MAX,
        cohere.V4_CHARS_MAX,
        cohere.V4_TOKENS_MAX,
    ):
        assert f"{limit:,}" in TEXT
