"""Every body and query of the REST API. The server and the command line decode with the same types. Pure."""
