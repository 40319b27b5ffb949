"""Runners: a model in a child process, answering."""
