"""The command line: from words to a verb's config, its jobs, sweeps and their table."""
