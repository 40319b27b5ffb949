"""What other programs keep on this machine: read, never written."""
