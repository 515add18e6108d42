"""Bulk import and export: files and objects of many formats into an index, and an index into them."""

from whimbrel.bulk.columns import Mapping
from whimbrel.bulk.errors import SourceChangedError, SourceError, TooManyBadRowsError
from whimbrel.bulk.exporting import ExportReport, ExportRequest, export_vectors
from whimbrel.bulk.importing import Creation, ImportReport, ImportRequest, import_vectors
from whimbrel.bulk.records import BadRow
from whimbrel.bulk.sources import Source

__all__ = [
    "BadRow",
    "Creation",
    "ExportReport",
    "ExportRequest",
    "ImportReport",
    "ImportRequest",
    "Mapping",
    "Source",
    "SourceChangedError",
    "SourceError",
    "TooManyBadRowsError",
    "export_vectors",
    "import_vectors",
]
