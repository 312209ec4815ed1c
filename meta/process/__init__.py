"""A service as a process: its supervisor, its address, its clocks, and its limit of open files."""
