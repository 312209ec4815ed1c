"""elves: real elves-agents over Thrift, the other elves modules over RabbitMQ, other heartbeat instances over ZooKeeper.

Source of all formats: the public heartbeat module (Java) and elves-agent (Go). docs/elves.md tells what is different here.
"""
