"""The bounded map: what goes first, and what is never kept."""

from whimbrel.engine.lru import LruCache


def test_the_least_recently_used_goes_first():
    cache: LruCache[str, int] = LruCache(count_max=2, bytes_max=100)
    cache.put("a", 1, 10)
    cache.put("b", 2, 10)
    assert cache.get("a") == 1
    cache.put("c", 3, 10)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    assert len(cache) == 2
    assert cache.size_bytes == 20


def test_bytes_are_bounded_and_a_value_that_is_too_large_is_not_kept():
    cache: LruCache[str, int] = LruCache(count_max=10, bytes_max=100)
    cache.put("a", 1, 60)
    cache.put("b", 2, 60)
    assert (cache.get("a"), cache.get("b")) == (None, 2)
    cache.put("huge", 3, 101)
    assert cache.get("huge") is None
    assert cache.size_bytes <= 100


def test_a_replaced_value_is_counted_once():
    cache: LruCache[str, int] = LruCache(count_max=10, bytes_max=100)
    cache.put("a", 1, 60)
    cache.put("a", 2, 70)
    assert cache.get("a") == 2
    assert cache.size_bytes == 70
