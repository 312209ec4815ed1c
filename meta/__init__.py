"""The service that holds the desired state of every agent and answers the hosts' heartbeats."""
