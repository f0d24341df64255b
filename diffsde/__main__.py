"""python -m diffsde."""

import sys

from diffsde.cli import main

sys.exit(main())
