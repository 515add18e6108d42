"""All engines that can be measured, by name."""

from bench.search.peers.faiss_peers import FaissFlat, FaissGraph, FaissLists
from bench.search.peers.interface import Peer
from bench.search.peers.lance_peers import LanceGraphs, LanceLists
from bench.search.peers.whimbrel_peer import Whimbrel

_ALL: tuple[Peer, ...] = (
    Whimbrel(),
    FaissFlat(),
    FaissLists(),
    FaissGraph(),
    LanceLists(),
    LanceGraphs(),
)
PEERS: dict[str, Peer] = {peer.name: peer for peer in _ALL}
OURS = "whimbrel"
