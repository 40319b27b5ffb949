"""The command line: words, formats, bars, environment and exit codes."""
