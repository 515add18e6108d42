"""An index under any sequence of requests, upkeep, restarts and a second process, against a dictionary."""

import asyncio
from contextlib import ExitStack
from unittest.mock import patch

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from whimbrel.core.errors import IndexNotFoundError
from whimbrel.engine import find
from whimbrel.engine.find import FindRequest
from whimbrel.engine.model import Metric
from whimbrel.engine.options import EngineOptions
from whimbrel.engine.update import UpdateRequest
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord, VectorOracle, content
from whimbrel.testing.small_lists import small_lists

BUCKET, INDEX = "bucket", "index"
OPTIONS = EngineOptions(
    compaction_fan_in=3,
    catalog_snapshot_record_count=3,
    list_page_bytes_max=60,
    segment_bytes_max=3500,  # of which headers are most: a few rows make several regions
)
KEYS = st.sampled_from([f"key-{number}".encode() for number in range(8)] + ["k\N{BIRD}".encode()])
NODES = st.integers(0, 1)
# Never all zero, so that cosine takes them; small, so that distances often tie.
VECTORS = st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.just(1))
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "colour": st.sampled_from(["red", "green", "reddish"]),
        "size": st.integers(0, 3) | st.just(1.5),
        "tags": st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2),
        "old": st.booleans(),
    },
)
FILTERS = st.sampled_from(
    [
        None,
        {"colour": "red"},
        {"colour": {"$startsWith": "red"}},
        {"size": {"$gte": 1, "$lt": 3}},
        {"tags": {"$in": ["a"]}},
        {"colour": {"$exists": False}},
        {"$or": [{"old": True}, {"size": {"$ne": 1}}]},
        {"$and": [{"tags": {"$nin": ["b"]}}, {"colour": {"$eq": "green"}}]},
    ]
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "colour": st.none() | st.sampled_from(["red", "green"]),
        "size": st.none() | st.integers(0, 3),
        "new": st.just("x"),
    },
)
RECORDS = st.dictionaries(
    KEYS, st.builds(OracleRecord.of, VECTORS, METADATA), min_size=1, max_size=5
)


async def find_all(node, condition, prefix, page_size):
    """Finds records page by page; returns them in the order in which they came."""
    found, token = {}, None
    while True:
        request = FindRequest(
            prefix=prefix,
            filter=condition,
            page_size=page_size,
            page_token=token,
            return_vectors=True,
            return_metadata=True,
        )
        page = await node.engine.find_vectors(BUCKET, INDEX, request)
        assert len(page.keys) <= page_size
        assert not set(page.keys) & set(found), "a key twice"
        found.update(content(page.keys, page.vectors, page.metadata))
        token = page.next_token
        if token is None:
            return found


class EngineMachine(RuleBasedStateMachine):
    """Two processes over one store; whatever either acknowledged, both answer from then on."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self.seed = 0
        self.nodes = [self.spawn(), self.spawn()]
        self.oracle = None

    def run(self, awaitable):
        return self.runner.run(self.clock.run(awaitable))

    def spawn(self):
        self.seed += 1
        node = Node(self.store, clock=self.clock, seed=self.seed, options=OPTIONS)
        self.run(node.start())
        return node

    def teardown(self):
        try:
            self.check_at_end()
        finally:
            self.runner.close()

    def check_at_end(self):
        if self.oracle is not None:
            self.check_listing(0, 500)
        report = self.run(self.nodes[0].fsck())
        assert report.is_clean, report.findings
        for node in self.nodes:
            assert node.indexer.stats.error_count == 0
            assert not node.indexer.stats.corrupt
            self.run(node.close())

    @initialize(metric=st.sampled_from(Metric))
    def create(self, metric):
        self.run(self.nodes[0].engine.create_bucket(BUCKET, tags={}))
        self.create_index(1, metric)

    def create_index(self, at, metric):
        self.run(self.nodes[at].create_index(BUCKET, INDEX, dimension=3, metric=metric))
        self.oracle = VectorOracle(metric)

    # --- requests ----------------------------------------------------------------------------------

    @rule(at=NODES, records=RECORDS)
    @precondition(lambda self: self.oracle)
    def put(self, at, records):
        self.run(self.nodes[at].put(BUCKET, INDEX, records))
        self.oracle.records.update(records)

    @rule(at=NODES, records=RECORDS, others=RECORDS, keys=st.lists(KEYS, min_size=1, max_size=3))
    @precondition(lambda self: self.oracle)
    def put_and_delete_at_once(self, at, records, others, keys):
        """One group commit, in which the requests take effect in the order in which they came."""

        async def send():
            node = self.nodes[at]
            await asyncio.gather(
                node.put(BUCKET, INDEX, records),
                node.delete(BUCKET, INDEX, keys),
                node.put(BUCKET, INDEX, others),
            )

        self.run(send())
        self.oracle.records.update(records)
        for key in keys:
            self.oracle.delete(key)
        self.oracle.records.update(others)

    @rule(at=NODES, keys=st.lists(KEYS, min_size=1, max_size=4))
    @precondition(lambda self: self.oracle)
    def delete(self, at, keys):
        self.run(self.nodes[at].delete(BUCKET, INDEX, keys))
        for key in keys:
            self.oracle.delete(key)

    @rule(at=NODES, keys=st.lists(KEYS, min_size=1, max_size=4))
    @precondition(lambda self: self.oracle)
    def get(self, at, keys):
        found = self.run(self.nodes[at].get(BUCKET, INDEX, keys))
        assert found == {
            key: self.oracle.records[key] for key in keys if key in self.oracle.records
        }

    @rule(at=NODES, page_size=st.integers(1, 4))
    @precondition(lambda self: self.oracle)
    def check_listing(self, at, page_size):
        found = self.run(self.nodes[at].list_all(BUCKET, INDEX, page_size=page_size))
        assert found == self.oracle.records

    @rule(at=NODES, vector=VECTORS, top_k=st.integers(1, 10), condition=FILTERS)
    @precondition(lambda self: self.oracle)
    def query(self, at, vector, top_k, condition):
        node = self.nodes[at]
        asked = {"top_k": top_k, "filter": condition, "return_metadata": True}
        page = self.run(node.query(BUCKET, INDEX, vector, **asked))
        self.oracle.check_hits(
            page.keys, page.distances.tolist(), vector=vector, top_k=top_k, condition=condition
        )

    @rule(at=NODES, condition=FILTERS)
    @precondition(lambda self: self.oracle)
    def count(self, at, condition):
        engine = self.nodes[at].engine
        found = self.run(engine.count_vectors(BUCKET, INDEX, condition=condition))
        assert found == len(self.oracle.matching(condition))

    @rule(
        at=NODES,
        condition=FILTERS,
        prefix=st.sampled_from([b"", b"k", b"key-", b"key-1", b"k\xf0", b"x"]),
        page_size=st.integers(1, 4),
    )
    @precondition(lambda self: self.oracle)
    def find(self, at, condition, prefix, page_size):
        found = self.run(find_all(self.nodes[at], condition, prefix, page_size))
        wanted = [key for key in self.oracle.matching(condition) if key.startswith(prefix)]
        assert found == {key: self.oracle.records[key] for key in wanted}
        assert list(found) == sorted(wanted)

    @rule(
        at=NODES,
        changes=st.dictionaries(KEYS, CHANGES, min_size=1, max_size=4),
        is_merge=st.booleans(),
    )
    @precondition(lambda self: self.oracle)
    def update(self, at, changes, is_merge):
        if not is_merge:
            changes = {
                key: {name: value for name, value in change.items() if value is not None}
                for key, change in changes.items()
            }
        request = UpdateRequest(list(changes), list(changes.values()), is_merge=is_merge)
        missing = self.run(self.nodes[at].engine.update_metadata(BUCKET, INDEX, request))
        assert missing == [key for key in changes if key not in self.oracle.records]
        for key, change in changes.items():
            self.oracle.update(key, change, is_merge=is_merge)

    @rule(at=NODES, condition=FILTERS, count_max=st.integers(1, 5))
    @precondition(lambda self: self.oracle)
    def erase(self, at, condition, count_max):
        if condition is None:
            return
        engine, matching = self.nodes[at].engine, self.oracle.matching(condition)
        asked = {"condition": condition, "count_max": count_max}
        erased = self.run(engine.delete_matching(BUCKET, INDEX, **asked))
        assert erased.deleted_count == min(count_max, len(matching))
        assert erased.remaining_count == len(matching) - erased.deleted_count
        # Which of them is not promised: what is left is what the index still has of them.
        left = self.run(self.nodes[at].get(BUCKET, INDEX, matching)) if matching else {}
        assert len(left) == erased.remaining_count
        for key in set(matching) - set(left):
            self.oracle.delete(key)

    # --- upkeep ------------------------------------------------------------------------------------

    @rule(at=NODES)
    @precondition(lambda self: self.oracle)
    def flush(self, at):
        self.run(self.nodes[at].flush(BUCKET, INDEX))

    @rule(at=NODES)
    @precondition(lambda self: self.oracle)
    def compact(self, at):
        self.run(self.nodes[at].compact(BUCKET, INDEX))

    @rule(at=NODES, is_quiet=st.booleans())
    @precondition(lambda self: self.oracle)
    def step(self, at, is_quiet):
        self.run(self.nodes[at].step(BUCKET, INDEX, is_quiet=is_quiet))

    @rule(at=NODES, turns=st.integers(1, 10), step_s=st.sampled_from([1.0, 30.0, 400.0]))
    def tend(self, at, turns, step_s):
        self.run(self.nodes[at].tend(turns=turns, step_s=step_s))

    @rule(at=NODES, wait_s=st.sampled_from([10.0, 5000.0]))
    def sweep(self, at, wait_s):
        self.clock.advance(wait_s)
        self.run(self.nodes[at].indexer.sweep())

    @rule(at=NODES, in_order=st.booleans())
    def restart(self, at, in_order):
        node = self.nodes[at]
        self.run(node.close() if in_order else node.abandon())
        self.nodes[at] = self.spawn()

    # --- the index itself --------------------------------------------------------------------------

    @rule(at=NODES)
    @precondition(lambda self: self.oracle)
    def delete_index(self, at):
        self.run(self.nodes[at].engine.delete_index(BUCKET, INDEX))
        self.oracle = None

    @rule(at=NODES, metric=st.sampled_from(Metric))
    @precondition(lambda self: not self.oracle)
    def create_again(self, at, metric):
        self.create_index(at, metric)

    @invariant()
    def a_deleted_index_is_gone(self):
        if self.oracle is None and self.nodes:
            for node in self.nodes:
                try:
                    self.run(node.list_all(BUCKET, INDEX))
                except IndexNotFoundError:
                    continue
                raise AssertionError("a deleted index answers")


class CodedEngineMachine(EngineMachine):
    """The same over segments that have codes and posting lists from the first row on, and are read in order of key."""

    def __init__(self):
        self.thresholds = ExitStack()
        self.thresholds.enter_context(small_lists())
        self.thresholds.enter_context(patch.object(find, "SORTED_ROWS_MAX", 0))
        self.thresholds.enter_context(patch.object(find, "LOOKED_AT_MAX", 3))
        super().__init__()

    def teardown(self):
        super().teardown()
        self.thresholds.close()


EngineMachine.TestCase.settings = settings(stateful_step_count=40)
CodedEngineMachine.TestCase.settings = settings(stateful_step_count=40)
TestEngine = EngineMachine.TestCase
TestCodedEngine = CodedEngineMachine.TestCase
