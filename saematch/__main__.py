"""`python -m saematch` is the `saematch` command."""
import sys

from .cli import main

sys.exit(main())
