"""The Python API: fields and verbs as functions, whose keyword arguments are the command line's words."""
