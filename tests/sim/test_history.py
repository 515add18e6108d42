"""The oracle of the simulation: what it accepts and what it must refuse."""

from whimbrel.testing.sim.history import (
    Change,
    Outcome,
    Read,
    Register,
    find_double_creations,
    find_double_deletions,
)

ACKNOWLEDGED, UNKNOWN, REFUSED = Outcome.ACKNOWLEDGED, Outcome.UNKNOWN, Outcome.REFUSED
NEVER = float("inf")


def put(value, begun, ended):
    return Change(value, begun, ended, ACKNOWLEDGED, "put")


def delete(begun, ended):
    return Change(None, begun, ended, ACKNOWLEDGED, "delete")


def lost(value, begun):
    return Change(value, begun, NEVER, UNKNOWN, "put")


def check(changes, reads):
    return Register("k", list(changes), [Read(v, b, e, "get") for v, b, e in reads])


def is_right(changes, reads):
    return check(changes, reads).find_contradictions() == []


def test_read_sees_the_write_acknowledged_before_it():
    assert is_right([put(1, 1, 2)], [(1, 3, 4)])
    assert not is_right([put(1, 1, 2)], [(None, 3, 4)])


def test_old_version_after_a_newer_acknowledged_write_is_wrong():
    changes = [put(1, 1, 2), put(2, 3, 4)]
    assert is_right(changes, [(2, 5, 6)])
    assert not is_right(changes, [(1, 5, 6)])


def test_write_under_way_may_be_seen_or_not_but_not_seen_and_unseen():
    changes = [put(1, 1, 2), put(2, 3, 10)]
    assert is_right(changes, [(1, 4, 5), (2, 6, 7)])
    assert not is_right(changes, [(2, 4, 5), (1, 6, 7)])


def test_unknown_write_may_appear_late_and_only_once():
    changes = [put(1, 1, 2), lost(9, 3), put(2, 5, 6)]
    assert is_right(changes, [(2, 7, 8), (9, 9, 10)])
    assert is_right(changes, [(1, 3.5, 4), (2, 7, 8)])
    assert not is_right(changes, [(9, 4, 4.5), (2, 7, 8), (9, 9, 10)])


def test_deleted_key_stays_away():
    changes = [put(1, 1, 2), delete(3, 4)]
    assert is_right(changes, [(None, 5, 6)])
    assert not is_right(changes, [(1, 5, 6)])
    assert is_right([*changes, put(2, 7, 8)], [(None, 5, 6), (2, 9, 10)])
    assert not is_right([*changes, put(2, 7, 8)], [(None, 9, 10)])


def test_unknown_delete_explains_an_absence_at_any_time():
    gone = Change(None, 1, NEVER, UNKNOWN, "delete")
    assert is_right([gone, put(1, 2, 3)], [(1, 4, 5), (None, 6, 7)])


def test_unknown_delete_happens_once():
    gone = Change(None, 1, NEVER, UNKNOWN, "delete")
    assert not is_right([gone, put(1, 2, 3)], [(1, 4, 5), (None, 6, 7), (1, 8, 9)])


def test_value_from_nowhere_and_of_a_refused_write_are_wrong():
    assert not is_right([], [(7, 1, 2)])
    refused = Change(7, 1, NEVER, REFUSED, "put")
    assert not is_right([refused], [(7, 3, 4)])
    assert not is_right([put(7, 5, 6)], [(7, 1, 2)])


def test_two_creations_need_a_deletion_between_them():
    assert find_double_creations("x", [put(1, 1, 2), put(2, 3, 4)])
    assert not find_double_creations("x", [put(1, 1, 2), delete(2.1, 2.2), put(2, 3, 4)])
    assert find_double_creations("x", [delete(0.1, 0.2), put(1, 1, 4), put(2, 2, 3)])
    assert not find_double_creations("x", [put(1, 1, 2), lost(2, 3)])


def deletes_twice(changes, reads):
    register = Register("x", list(changes), [Read(v, b, e, "describe") for v, b, e in reads])
    return find_double_deletions(register) != []


def test_one_deletion_ends_one_life():
    lives = [put(1, 1, 2), put(2, 7, 8)]
    reads = [(1, 3, 4), (None, 5, 6), (2, 9, 10), (None, 11, 12)]
    slow = Change(None, 2.5, NEVER, UNKNOWN, "delete")
    assert deletes_twice([*lives, slow], reads)
    assert not deletes_twice([*lives, slow], reads[:-1])
    assert not deletes_twice([*lives, slow, delete(10.1, 10.9)], reads)
    assert not deletes_twice([*lives, delete(4.1, 4.9), slow], reads)
    assert deletes_twice([*lives, delete(4.1, 4.9), delete(4.2, 5)], reads)
    refused = Change(None, 10.1, NEVER, REFUSED, "delete")
    assert deletes_twice([*lives, slow, refused], reads)


def test_a_deletion_under_way_may_end_any_life():
    lives = [put(1, 1, 2), put(2, 7, 8)]
    reads = [(1, 3, 4), (2, 9, 10), (None, 11, 12)]
    assert not deletes_twice([*lives, delete(2.5, 11.5), delete(2.6, 5)], reads)
    assert deletes_twice([*lives, delete(2.5, 11.5)], reads)
    assert not deletes_twice([put(1, 1, 2)], [(None, 0.5, 0.7), (1, 3, 4)])
