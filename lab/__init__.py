"""A fleet on one machine: real agents, real updaters, a real meta, for the demo, the end-to-end tests and the benches."""
