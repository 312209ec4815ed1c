"""elves' Thrift: the server that elves-agents call, and the coding of its messages."""
