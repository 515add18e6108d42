"""The hot loops: distances over float32 rows and the scanner of PutVectors bodies.

Each operation exists in C++ (one file per instruction set, chosen at run time) and as a twin in NumPy or the
standard library. The twin has the same signature; it is the specification, the oracle of the tests, and what runs
where no C++ compiler was found. `docs/concepts/kernels.md` derives the error bounds.
"""

from whimbrel.kernel.distance import Neighbours, distances, nearest, row_norms
from whimbrel.kernel.scanner import ScannedPut, scan_put_vectors
from whimbrel.kernel.strict_json import ScanError, parse_strict
from whimbrel.kernel.variant import ExtensionBuild, active_isa, extension_build, isas

__all__ = [
    "ExtensionBuild",
    "Neighbours",
    "ScanError",
    "ScannedPut",
    "active_isa",
    "distances",
    "extension_build",
    "isas",
    "nearest",
    "parse_strict",
    "row_norms",
    "scan_put_vectors",
]
