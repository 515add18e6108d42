"""What an operator is told of connections that were refused."""

from prometheus_client import CollectorRegistry, generate_latest

from whimbrel.wire.connections import LINES_EVERY_S, Connections, find_excess
from whimbrel.wire.options import WireOptions
from whimbrel.wire.peer import ConnectionCounts


def test_what_there_are_too_many_of():
    options = WireOptions(connection_count_max=4, address_connection_count_max=2)
    first, second = ConnectionCounts(), ConnectionCounts()

    def excess(address):
        return find_excess(first, second, address=address, options=options)

    assert excess("10.0.0.1") is None
    first.add("10.0.0.1")
    second.add("10.0.0.1")
    assert (excess("10.0.0.1"), excess("10.0.0.2")) == ("address", None)
    first.add("10.0.0.2")
    second.add("10.0.0.3")
    assert excess("10.0.0.4") == "total"


def test_refusals_are_counted_each_and_told_once_a_minute(caplog):
    connections, registry = Connections(), CollectorRegistry()
    registry.register(connections)
    connections.opened.add("10.0.0.1")
    connections.handshakes.add("10.0.0.2")
    for number in range(100):
        connections.note_refusal("address", now_s=number / 10)
    assert [record.getMessage().split(". ")[1] for record in caplog.records] == [
        "reason=`address` refused=`1` open=`2`"
    ]
    connections.note_refusal("total", now_s=LINES_EVERY_S)
    assert "reason=`total` refused=`100` open=`2`" in caplog.text
    text = generate_latest(registry).decode()
    assert "whimbrel_connections 2.0" in text
    assert 'whimbrel_connections_refused_total{reason="address"} 100.0' in text
    assert 'whimbrel_connections_refused_total{reason="total"} 1.0' in text
