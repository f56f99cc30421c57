"""`python -m saematch` is the `saematch` command."""

import sys

from .studies.cli import main

sys.exit(main())
