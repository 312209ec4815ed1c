"""elves' RabbitMQ: what other modules ask, and what we ask of the supervisor."""
