"""The engine: jobs, the run folder, the machine, processes, the training loop; what verbs share and none of them is."""
