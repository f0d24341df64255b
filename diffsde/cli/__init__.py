"""The command line: words to a verb's config, its jobs, sweeps and their table."""
