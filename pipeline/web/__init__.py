"""The HTTP API: the same commands and the same books as the command line, over JSON."""
