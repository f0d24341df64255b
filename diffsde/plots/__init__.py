"""Arrays to matplotlib figures and animations: no files, no jax."""
