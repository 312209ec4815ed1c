"""What updater and meta say to each other: its types, their bounds, and why bytes or values are none."""
