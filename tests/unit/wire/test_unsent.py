"""Answers that wait for their clients hold bounded memory."""

from whimbrel.wire.unsent import UnsentAnswers


def test_the_answer_that_has_waited_longest_is_cut_off():
    cut = []
    unsent = UnsentAnswers(100)
    clients = [lambda n=n: cut.append(n) for n in range(4)]
    for client in clients[:3]:
        unsent.hold(client, 40)
    assert cut == [0]
    unsent.release(clients[0])
    assert unsent.held_bytes == 80
    unsent.release(clients[1])
    unsent.hold(clients[3], 60)
    assert (cut, unsent.held_bytes) == ([0], 100)


def test_an_answer_larger_than_all_may_hold_is_cut_off_itself():
    cut = []
    unsent = UnsentAnswers(100)
    unsent.hold(lambda: cut.append("large"), 101)
    assert (cut, unsent.held_bytes) == (["large"], 0)
