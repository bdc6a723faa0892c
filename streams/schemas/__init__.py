"""What stands on the topics, as types, and the documents that are made of them: JSON Schema and AsyncAPI."""
