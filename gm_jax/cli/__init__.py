"""The command line: the only place that parses or prints."""
