"""The engine that all verbs share: jobs, the run folder, the machine, processes, the training loop."""
