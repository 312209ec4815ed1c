"""Changes of the records: the operations, what they change in words, and the editor that commits them."""
