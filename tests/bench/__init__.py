"""The figures of modelpm beside those of its peers: `python -m tests.bench`."""
