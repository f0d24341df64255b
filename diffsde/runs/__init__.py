"""The verbs, a file each: (config, folder) -> results; and the run folder that they read and write."""
