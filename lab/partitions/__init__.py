"""Several metas on one PostgreSQL, and everything between them that can break: `python -m lab.partitions --help`."""
