"""python -m diffsde."""

import sys

from diffsde.cli.main import main

sys.exit(main())
