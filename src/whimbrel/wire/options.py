"""The wire's limits, with units and reasons. One frozen object, handed to the application."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOptions:
    """Settings of one HTTP endpoint.

    Attributes:
        region: stands in the ARNs we write; requests may be signed for any.
        account_id: 12 digits; the account of every resource here.
        trusted_proxies: addresses and networks with commas between, whose word for whom they ask is taken.
        metrics_signed: whether the metrics are for those alone who may see them.
        body_bytes_max: the largest request body, inclusive; AWS's number.
        model_body_bytes_max: likewise of a request to a model of Bedrock; AWS's number.
        form_bytes_max: the largest form (STS), of which every one in use is far smaller.
        iam_form_bytes_max: the largest form of IAM: a policy, percent-encoded.
        request_count_max: requests that wait or are worked on; further ones get 503.
        read_count_max: queries, gets and lists of vectors worked on at a time; further ones wait; 0 is for
            whoever knows the threads to choose.
        ordinary_count_max: while no more requests are in the server, none is refused for having waited.
        read_wait_s: how long they may wait in a burst, and a tenth of it under standing overload; then 503.
        write_count_max: puts and deletes of vectors worked on at a time; further ones wait.
        write_wait_s: how long they may wait, likewise.
        embed_count_max: requests for embeddings worked on at a time; further ones wait.
        embed_wait_s: how long they may wait, likewise.
        body_bytes_in_flight_max: request bodies held in memory at a time, all together; beyond it 503.
        answer_bytes_in_flight_max: answers held in memory that clients have not taken yet, all together; beyond it the
            one that has waited longest is given up, and its connection.
        request_deadline_s: from the request's head to its answer, body included.
        send_deadline_s: for the client to take the answer.
        drain_bytes_max: of a refused body, how much is read and dropped so that its sender sees the answer.
        drain_deadline_s: how long that may take.
        inline_body_bytes_max: bodies up to this are hashed and parsed on the event loop; larger ones on a
            thread of the pool.
        header_bytes_max: request line and headers together.
        header_count_max: headers of a request.
        header_deadline_s: for a connection to send them.
        keep_alive_s: an idle connection is closed after this.
        shutdown_deadline_s: how long requests that were accepted may take to finish when the server stops.
        shutdown_body_deadline_s: how long, of that, a body may take that has not arrived whole.
        connection_count_max: connections open at a time; further ones are answered 503 and closed.
        address_connection_count_max: of them, from one IPv4 address or one /64 of IPv6.
        tls_handshake_deadline_s: for a client to agree on TLS, from the moment it connected.
        backlog: connections the system queues before we accept them.
    """

    region: str = "us-east-1"
    account_id: str = "123456789012"
    trusted_proxies: str = ""
    metrics_signed: bool = False
    body_bytes_max: int = 20_971_520
    model_body_bytes_max: int = 25_000_000
    form_bytes_max: int = 64 * 1024
    iam_form_bytes_max: int = 256 * 1024
    request_count_max: int = 512
    read_count_max: int = 0
    ordinary_count_max: int = 64
    read_wait_s: float = 0.5
    write_count_max: int = 16
    write_wait_s: float = 5.0
    embed_count_max: int = 64
    embed_wait_s: float = 30.0
    body_bytes_in_flight_max: int = 512 * MIB
    answer_bytes_in_flight_max: int = 256 * MIB
    request_deadline_s: float = 60.0
    send_deadline_s: float = 60.0
    drain_bytes_max: int = 256 * MIB
    drain_deadline_s: float = 30.0
    inline_body_bytes_max: int = 64 * 1024
    header_bytes_max: int = 64 * 1024
    header_count_max: int = 100
    header_deadline_s: float = 30.0
    keep_alive_s: int = 60
    shutdown_deadline_s: int = 60
    shutdown_body_deadline_s: float = 3.0
    connection_count_max: int = 4096
    address_connection_count_max: int = 2048
    tls_handshake_deadline_s: float = 10.0
    backlog: int = 1024
