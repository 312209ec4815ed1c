"""Values: paths, memories, plans, what was observed. Nothing here touches the host."""
