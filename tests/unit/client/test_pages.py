"""Paginators page as botocore's do, which are the oracle here."""

from types import SimpleNamespace

import pytest
from botocore.paginate import PageIterator
from botocore.paginate import Paginator as TheirPaginator
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.client.operations import OPERATIONS
from whimbrel.client.pages import Paginator, Paging, find_paging
from whimbrel.wire.extension_model import EXTENSIONS

CONFIG = {
    "input_token": "nextToken",
    "output_token": "nextToken",
    "limit_key": "maxResults",
    "result_key": "vectors",
}


class Listing:
    """Lists numbers page by page, as the service does."""

    def __init__(self, item_count: int, page_size: int) -> None:
        self.items = [{"key": str(number)} for number in range(item_count)]
        self.page_size = page_size
        self.calls: list[dict[str, object]] = []

    def __call__(self, **parameters):
        self.calls.append(parameters)
        start = int(parameters.get("nextToken", 0))
        limit = start + min(parameters.get("maxResults", self.page_size), self.page_size)
        page = {
            "vectors": self.items[start:limit],
            "ResponseMetadata": {},
            "distanceMetric": "cosine",
        }
        return page | ({"nextToken": str(limit)} if limit < len(self.items) else {})


def theirs(listing: Listing) -> TheirPaginator:
    model = SimpleNamespace(
        name="ListVectors",
        input_shape=SimpleNamespace(members={"maxResults": SimpleNamespace(type_name="integer")}),
    )
    return TheirPaginator(listing, CONFIG, model)


def walk(iterator) -> tuple[list[object], object]:
    return [page["vectors"] for page in iterator], iterator.resume_token


@given(
    item_count=st.integers(0, 12),
    page_size=st.integers(1, 5),
    most=st.none() | st.integers(1, 14),
    asked_size=st.none() | st.integers(1, 6),
)
def test_pages_and_tokens_are_botocores(item_count, page_size, most, asked_size):
    config = {"MaxItems": most, "PageSize": asked_size}
    config = {name: value for name, value in config.items() if value is not None}
    token, count = None, 0
    while True:
        # Each goes on where the other said.
        ours, other = Listing(item_count, page_size), Listing(item_count, page_size)
        start = config | ({"StartingToken": token} if token else {})
        mine = Paginator(ours, Paging("vectors", has_size=True)).paginate(PaginationConfig=start)
        his: PageIterator = theirs(other).paginate(PaginationConfig=start)
        pages, resumed = walk(mine)
        expected, his_token = walk(his)
        assert [item for page in pages for item in page] == [
            item for page in expected for item in page
        ]
        assert (resumed is None) == (his_token is None)
        assert [call.get("nextToken") for call in ours.calls] == [
            call.get("nextToken") for call in other.calls
        ]
        count += sum(map(len, pages))
        if his_token is None:
            break
        token = his_token if count % 2 else resumed
    assert count == item_count


def test_full_result_is_botocores():
    for most in (None, 3):
        config = {} if most is None else {"MaxItems": most}
        paging = Paging("vectors", has_size=True)
        mine = Paginator(Listing(7, 2), paging).paginate(PaginationConfig=config)
        whole = theirs(Listing(7, 2)).paginate(PaginationConfig=config).build_full_result()
        found = mine.build_full_result()
        assert found["vectors"] == whole["vectors"]
        assert ("NextToken" in found) == ("NextToken" in whole)


def test_iterating_again_starts_again():
    pages = Paginator(Listing(5, 2), Paging("vectors", has_size=True)).paginate()
    assert [len(page["vectors"]) for page in pages] == [len(page["vectors"]) for page in pages]


def test_search():
    pages = Paginator(Listing(5, 2), Paging("vectors", has_size=True)).paginate()
    assert list(pages.search("vectors[].key")) == ["0", "1", "2", "3", "4"]
    assert list(pages.search("distanceMetric")) == ["cosine"] * 3


def test_a_token_that_comes_again_is_an_error():
    def stuck(**_):
        return {"vectors": [], "nextToken": "x"}

    with pytest.raises(ValueError, match="received twice"):
        list(Paginator(stuck, Paging("vectors", has_size=True)).paginate())


def test_operations_that_page():
    paged = {name: find_paging(operation) for name, operation in OPERATIONS.items()}
    found = {name: paging for name, paging in paged.items() if paging is not None}
    assert found["ListIndexes"] == Paging("indexes", has_size=True)
    assert found["ListVectorBuckets"] == Paging("vectorBuckets", has_size=True)
    assert found["ListVectors"] == Paging("vectors", has_size=True)
    assert found["QueryVectors"] == Paging("vectors", has_size=False)
    assert "GetVectors" not in found


def test_extensions_page_as_their_table_says():
    for name, extension in EXTENSIONS.items():
        said = extension.pagination
        assert find_paging(OPERATIONS[name]) == (
            None if said is None else Paging(said.result, has_size=said.page_size is not None)
        )
