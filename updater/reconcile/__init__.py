"""The work of a host: the daemon, its cycles, the turn of each agent in a cycle, and the plan that a turn performs."""
