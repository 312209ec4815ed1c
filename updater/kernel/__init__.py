"""What the kernel knows of an agent's processes, and the only place that signals them."""
