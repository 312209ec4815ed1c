"""elves' ZooKeeper: heartbeat instances share the agents that they hear of."""
