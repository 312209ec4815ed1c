"""elves' ZooKeeper, by which heartbeat instances share the agents that they hear of."""
