"""Values: paths, memories, actions and plans, observations. Pure: nothing here touches the host."""
