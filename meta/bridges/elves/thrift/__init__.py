"""elves' Thrift: the server that elves-agents call, and its bytes."""
