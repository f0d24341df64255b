"""The one exception that is the user's to mend; apart, so that the command line starts without importing jax."""


class UserError(Exception):
    """One line that says what is wrong, where, and what would be right (exit status 2)."""
