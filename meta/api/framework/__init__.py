"""What makes operations out of functions: decoding, problems, conditions, the OpenAPI document."""
