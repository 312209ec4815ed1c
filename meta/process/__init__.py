"""A service as a process: kept up, its address, its limit of open files."""
