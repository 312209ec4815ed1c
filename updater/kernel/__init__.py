"""Agents' processes as the kernel shows them. Only this room signals them."""
