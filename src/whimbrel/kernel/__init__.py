"""The hot loops: exact distances, 1-bit codes and their scans, clustering, bitmaps, PutVectors bodies read and written.

Each operation exists in C++ (one file per instruction set, chosen at run time) and as a twin in NumPy or the
standard library. The twin has the same signature; it is the specification, the oracle of the tests, and what runs
where no C++ compiler was found. `docs/concepts/kernels.md` derives the error bounds.
"""

from whimbrel.kernel.clustering import Assignment, Split, assign, split
from whimbrel.kernel.codes import (
    CodeBlocks,
    Codes,
    block_bytes,
    encode_rows,
    pack_blocks,
    pad_factors,
    posting_terms,
    unpack_blocks,
)
from whimbrel.kernel.distance import Neighbours, distances, nearest, row_norms
from whimbrel.kernel.fastscan import CandidateRows, Candidates, QueryTable
from whimbrel.kernel.float_text import write_vectors
from whimbrel.kernel.rerank import rerank
from whimbrel.kernel.rotation import padded_dimension, rotate
from whimbrel.kernel.scanner import ScannedPut, scan_put_vectors
from whimbrel.kernel.stored import Guard, StoredRows
from whimbrel.kernel.strict_json import ScanError, parse_strict
from whimbrel.kernel.variant import ExtensionBuild, active_isa, extension_build, isas

__all__ = [
    "Assignment",
    "CandidateRows",
    "Candidates",
    "CodeBlocks",
    "Codes",
    "ExtensionBuild",
    "Guard",
    "Neighbours",
    "QueryTable",
    "ScanError",
    "ScannedPut",
    "Split",
    "StoredRows",
    "active_isa",
    "assign",
    "block_bytes",
    "distances",
    "encode_rows",
    "extension_build",
    "isas",
    "nearest",
    "pack_blocks",
    "pad_factors",
    "padded_dimension",
    "parse_strict",
    "posting_terms",
    "rerank",
    "rotate",
    "row_norms",
    "scan_put_vectors",
    "split",
    "unpack_blocks",
    "write_vectors",
]
