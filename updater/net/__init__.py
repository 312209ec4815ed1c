"""The HTTP client with its deadline, credentials and error texts; addresses; delays between tries."""
