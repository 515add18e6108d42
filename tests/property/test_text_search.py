"""Text search over random histories: what is found, in which order, with which scores, as a brute-force oracle says."""

import asyncio
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whimbrel.core.errors import InvalidRequestError
from whimbrel.engine.model import TextQuery
from whimbrel.engine.text.field import TextField
from whimbrel.storage.memory import MemoryStore
from whimbrel.testing.node import ManualClock, Node
from whimbrel.testing.oracle import OracleRecord
from whimbrel.text import get_analyzer

WORDS = ["heron", "herons", "Heron", "marsh", "tide", "the", "the", "wading", "2,5", "über", "-"]
TITLE, BODY = TextField("title", "en"), TextField("body")
NAMES = ("bucket", "index")


def score(records, field, text):
    """Returns the BM25 score of each record that has one of the words, computed one by one."""
    analyzer = get_analyzer(field.language)
    texts = {}
    for key, record in records.items():
        value = record.metadata.get(field.metadata_key)
        own = value if isinstance(value, list) and isinstance(value[0], str) else [value]
        terms = [term for one in own if isinstance(one, str) for term in analyzer.terms(one)]
        if terms:
            texts[key] = Counter(terms)
    if not texts:
        return {}
    mean = sum(map(Counter.total, texts.values())) / len(texts)
    scores = {}
    for term, asked in Counter(analyzer.terms(text)).items():
        count = sum(term in own for own in texts.values())
        rarity = math.log(1 + (len(texts) - count + 0.5) / (count + 0.5))
        for key, own in texts.items():
            if term in own:
                norm = 1.2 * 0.25 + 1.2 * 0.75 / mean * own.total()
                part = rarity * asked * (own[term] / (own[term] + norm))
                scores[key] = scores.get(key, 0.0) + part
    return scores


def matches(record, wanted):
    return wanted is None or record.metadata.get("colour") == wanted


def ranked(scores, records, wanted):
    rounded = {
        key: float(np.float32(value))
        for key, value in scores.items()
        if matches(records[key], wanted)
    }
    return sorted(rounded, key=lambda key: (-rounded[key], key)), rounded


class History:
    """A node, what it should hold, and which keys should be searchable."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        clock = ManualClock()
        self.node = Node(MemoryStore(clock=clock), clock=clock, seed=seed)
        self.records: dict[bytes, OracleRecord] = {}
        self.fields: list[TextField] = []
        self.version = 0

    def text(self):
        count = int(self.random.integers(0, 9))
        return " ".join(str(self.random.choice(WORDS)) for _ in range(count))

    def record(self):
        metadata = {"colour": str(self.random.choice(["red", "grey"]))}
        for key in ("title", "body"):
            kind = self.random.integers(0, 8)
            if kind == 0:
                continue
            metadata[key] = 7 if kind == 1 else self.text()
            if kind == 2:
                metadata[key] = [self.text(), self.text()]
        return OracleRecord.of(self.random.integers(-3, 4, 2).tolist(), metadata)

    async def step(self):
        kind = self.random.integers(0, 12)
        keys = [b"%d" % number for number in self.random.integers(0, 40, 6)]
        if kind < 5:
            batch = {key: self.record() for key in keys}
            await self.node.put(*NAMES, batch)
            self.records.update(batch)
        elif kind == 5:
            await self.node.delete(*NAMES, keys[:3])
            for key in keys[:3]:
                self.records.pop(key, None)
        elif kind < 8:
            await self.node.flush(*NAMES)
        elif kind == 8:
            await self.node.compact(*NAMES)
        elif kind == 9:
            await self.node.backfill(*NAMES)
        else:
            await self.change_fields()

    async def change_fields(self):
        field = TITLE if self.random.random() < 0.5 else BODY
        kept = [one for one in self.fields if one.metadata_key != field.metadata_key]
        if len(kept) == len(self.fields) or self.random.random() < 0.3:
            kept.append(field)
        self.fields = kept
        await self.node.engine.change_text_fields(*NAMES, lambda _: tuple(kept))

    async def catch_up(self):
        """Has all postings built; the tail stays where it is."""
        while await self.node.backfill(*NAMES):
            pass
        info = await self.node.engine.get_index(*NAMES)
        assert {(one.metadata_key, one.language) for one in info.texts} == {
            (field.metadata_key, field.language) for field in self.fields
        }
        if not all(one.is_built for one in info.texts):
            # Fields changed by the tail alone are built once it is flushed.
            await self.node.flush(*NAMES)
            while await self.node.backfill(*NAMES):
                pass
            info = await self.node.engine.get_index(*NAMES)
        assert all(one.is_built for one in info.texts)

    async def check(self):
        await self.catch_up()
        text = self.text() or "tide"
        wanted = None if self.random.random() < 0.5 else "red"
        condition = None if wanted is None else {"colour": wanted}
        top_k = int(self.random.choice([1, 3, 100]))
        for field in self.fields:
            scores = score(self.records, field, text)
            page = await self.ask(None, [field], text, top_k, condition)
            keys, rounded = ranked(scores, self.records, wanted)
            assert list(page.keys) == keys[:top_k], (field, text)
            assert page.scores is not None
            expected = [rounded[key] for key in page.keys]
            assert np.allclose(page.scores.bm25[:, 0], expected, rtol=1e-6)
            assert page.scores.fused is None
        if len(self.fields) == 2:
            await self.check_both_fields(text, top_k, condition, wanted)
        if self.fields:
            await self.check_hybrid(text, top_k, condition, wanted)

    async def ask(self, vector, fields, text, top_k, condition):
        texts = tuple(TextQuery(field.metadata_key, text) for field in fields)
        return await self.node.query(
            *NAMES,
            vector,
            texts=texts,
            top_k=top_k,
            filter=condition,
            return_scores=True,
            return_distance=True,
        )

    async def check_both_fields(self, text, top_k, condition, wanted):
        each = [score(self.records, field, text) for field in self.fields]
        sums = {key: sum(own.get(key, 0.0) for own in each) for key in {*each[0], *each[1]}}
        page = await self.ask(None, self.fields, text, top_k, condition)
        _, rounded = ranked(sums, self.records, wanted)
        assert len(page.keys) == min(top_k, len(rounded))
        # Sums may differ in their last bit, as terms are added in another order.
        order = sorted(rounded.values(), reverse=True)[:top_k]
        assert np.allclose([rounded[key] for key in page.keys], order, rtol=1e-6)
        for number, own in enumerate(each):
            expected = [own.get(key, math.nan) for key in page.keys]
            found = page.scores.bm25[:, number]
            assert np.allclose(found, expected, rtol=1e-6, equal_nan=True)

    async def check_hybrid(self, text, top_k, condition, wanted):
        vector = self.random.integers(-3, 4, 2).tolist()
        distances = {
            key: float(np.float32(math.dist(record.vector, vector)))
            for key, record in self.records.items()
            if matches(record, wanted)
        }
        lists = [sorted(distances, key=lambda key: (distances[key], key))]
        each = [score(self.records, field, text) for field in self.fields]
        lists += [ranked(own, self.records, wanted)[0] for own in each]
        fused = Counter()
        for own in lists:
            for place, key in enumerate(own[: max(top_k, 32)]):
                fused[key] += 1 / (61 + place)
        rounded = {key: float(np.float32(value)) for key, value in fused.items()}
        page = await self.ask(vector, self.fields, text, top_k, condition)
        keys = sorted(rounded, key=lambda key: (-rounded[key], key))[:top_k]
        assert list(page.keys) == keys
        assert page.scores.fused.tolist() == [rounded[key] for key in keys]
        assert np.allclose(page.distances, [distances[key] for key in keys], rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_any_history_answers_as_the_oracle_does(seed):
    async def run():
        history = History(seed)
        await history.node.start()
        await history.node.engine.create_bucket(NAMES[0], tags={})
        history.fields = [TITLE] if seed % 2 else []
        await history.node.create_index(*NAMES, text_fields=tuple(history.fields))
        for _ in range(int(history.random.integers(5, 40))):
            await history.step()
            if history.random.random() < 0.3:
                await history.check()
        await history.check()
        report = await history.node.fsck()
        assert report.is_clean, report.findings
        await history.node.close()

    asyncio.run(run())


def test_a_key_is_refused_that_is_not_searchable_or_not_yet():
    async def run():
        clock = ManualClock()
        node = Node(MemoryStore(clock=clock), clock=clock)
        await node.start()
        await node.engine.create_bucket(NAMES[0], tags={})
        await node.create_index(*NAMES)
        await node.put(*NAMES, {b"a": OracleRecord.of([1, 2], {"title": "a heron"})})
        await node.flush(*NAMES)
        texts = (TextQuery("title", "heron"),)
        with pytest.raises(InvalidRequestError, match="'title' is not configured"):
            await node.query(*NAMES, None, texts=texts, top_k=1)
        await node.engine.change_text_fields(*NAMES, lambda _: (TITLE,))
        with pytest.raises(InvalidRequestError, match="'title' is still being built"):
            await node.query(*NAMES, None, texts=texts, top_k=1)
        assert [one.is_built for one in (await node.engine.get_index(*NAMES)).texts] == [False]
        await node.tend(turns=2)
        assert (await node.query(*NAMES, None, texts=texts, top_k=1)).keys == [b"a"]
        assert [one.is_built for one in (await node.engine.get_index(*NAMES)).texts] == [True]
        await node.close()

    asyncio.run(run())
