"""Records files, our own and ops-meta's: text to values, with every problem's line."""
