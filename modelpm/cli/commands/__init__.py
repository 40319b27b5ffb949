"""One file a command: parse, one client call, one render."""
