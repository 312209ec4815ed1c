"""What both services share on a machine: readiness, Ctrl-C, who listens on a port, and web pages kept away."""
