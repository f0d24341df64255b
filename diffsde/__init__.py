"""diffsde: a laboratory for flow and diffusion models. See README.md and docs/."""

__version__ = "0.1.0"
