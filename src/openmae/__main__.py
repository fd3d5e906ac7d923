"""`python -m openmae` is the command `openmae`."""

import sys

from openmae.cli import main

sys.exit(main())
