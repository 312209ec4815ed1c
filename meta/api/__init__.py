"""The REST API of meta, below /api/v1: one module per topic, thin; the types of all bodies are in meta.api.schemas.types."""
