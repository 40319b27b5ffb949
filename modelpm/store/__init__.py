"""The store: an OCI image layout on disk that keeps every blob once."""
