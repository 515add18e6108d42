"""All engines that can be measured, by name."""

from bench.search.peers.chroma_peers import ChromaInProcess, ChromaOverHttp
from bench.search.peers.faiss_peers import FaissFlat, FaissGraph, FaissLists
from bench.search.peers.graph_peers import Hnswlib, Usearch
from bench.search.peers.interface import Peer
from bench.search.peers.lance_peers import LanceGraphs, LanceLists
from bench.search.peers.milvus_peer import MilvusLite
from bench.search.peers.pgvector_peers import PostgresGraph, PostgresLists
from bench.search.peers.sqlite_peers import SqliteBits, SqliteFloats
from bench.search.peers.whimbrel_peer import Whimbrel

OURS = "whimbrel"


def _named(*peers: Peer) -> dict[str, Peer]:
    return {peer.name: peer for peer in peers}


_scaling = _named(
    Whimbrel(),
    FaissFlat(),
    FaissLists(),
    FaissGraph(),
    LanceLists(),
    LanceGraphs(),
)
_databases = _named(
    Usearch("f32"),
    Usearch("f16"),
    Hnswlib(),
    ChromaInProcess(),
    ChromaOverHttp(),
    PostgresGraph(),
    PostgresLists(),
    SqliteFloats(),
    SqliteBits(),
    MilvusLite(),
)
PEERS = _scaling | _databases
# Those that are measured at every size, and those that are up to 100,000 rows, where they are at home.
SCALING, DATABASES = tuple(_scaling), tuple(_databases)
