"""What is on this host: its configuration, its agents, what their control scripts say, what is remembered of them."""
