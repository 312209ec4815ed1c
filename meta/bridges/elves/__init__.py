"""The bridge to elves: agents over Thrift, other elves modules over RabbitMQ, other heartbeat instances over ZooKeeper.

All formats are those of the public heartbeat module (Java) and of elves-agent (Go). docs/elves.md lists the differences.
"""
