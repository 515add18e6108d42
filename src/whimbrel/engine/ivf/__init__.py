"""The inverted file: rows are partitioned by nearest centroid into posting lists, of which a query scans a few.

`train` finds centroids, `partition` assigns rows to them, `codes` encodes rows, `calibrate` measures how many a query
must scan. Everything here is a pure function of its input.
"""
