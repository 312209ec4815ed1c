"""The work of a host: a daemon, cycles in it, an agent's turn in a cycle, and the plan that a turn performs."""
