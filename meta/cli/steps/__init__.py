"""What commands do in several steps: preview and confirm, publish, prune, choose hosts, watch."""
