"""Questions about all hosts: pages, counts, drift, failures, and how far a change has come."""
