"""elves' RabbitMQ: calls of other modules, and our calls to the supervisor."""
