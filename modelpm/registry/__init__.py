"""Registries: the distribution protocol over HTTP, seen as a place to read from."""
