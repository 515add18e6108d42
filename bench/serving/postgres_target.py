"""PostgreSQL with pgvector under load, asked in its own binary protocol."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.search.neighbours import Float32Array
from bench.search.peers import pgvector_peers as pgvector
from bench.search.peers import postgres
from bench.serving.postgres_dialogue import PostgresDialogue, execution, first_columns

OPERATOR = pgvector.operators("cosine")[0]


class PostgresTarget:
    """A running server with one table.

    Attributes:
        efforts: that can be set, from cheap to dear.
    """

    name = "pgvector"
    efforts: Sequence[int] = pgvector.EFFORTS

    def __init__(self, server: postgres.Postgres) -> None:
        self._server = server
        self._effort = self.efforts[0]

    @property
    def process_id(self) -> int:
        """The server's first process; each connection has one of its own."""
        return self._server.process.pid

    def fill(self, blocks: Iterable[Float32Array]) -> None:
        """Copies all rows and links them."""
        connection, first = None, 0
        for block in blocks:
            if connection is None:
                connection = pgvector.create_rows(self._server, block.shape[1], {})
            pgvector.copy_rows(connection, block, first=first, columns=[])
            first += len(block)
        assert connection is not None
        connection.execute(pgvector.graph_sql("cosine"))
        connection.execute("VACUUM (ANALYZE) rows")
        connection.close()

    def set_effort(self, effort: int) -> None:
        """Sets the search effort of connections made from now on."""
        self._effort = effort

    def queries(self, vectors: Float32Array, *, top_k: int) -> PostgresDialogue:
        """Returns executions of the query."""
        return PostgresDialogue(
            address=("127.0.0.1", self._server.port),
            requests=[execution(vector) for vector in vectors],
            user=postgres.USER,
            database=postgres.DATABASE,
            settings=[f"SET hnsw.ef_search = {self._effort}"],
            statement=pgvector.query_sql(OPERATOR, top_k, argument="$1"),
        )

    def row_numbers(self, answer: bytes) -> list[int]:
        """Returns the rows that an answer names."""
        return first_columns(answer)


@contextmanager
def running(folder: Path) -> Iterator[PostgresTarget]:
    """Runs a server over an empty folder for a `with` block."""
    postgres.create(folder)
    with postgres.running(folder) as server:
        yield PostgresTarget(server)
