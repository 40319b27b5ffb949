"""Models: what the layers of an artifact mean."""
