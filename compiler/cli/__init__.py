"""The command line: files, streams and exit statuses."""
