"""The verbs of the command line, what a user types after `diffsde`: one file per verb."""
