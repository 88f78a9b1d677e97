"""`python -m gm_jax`: the same as the console script `gm-jax`."""

import sys

from gm_jax.cli.main import main

sys.exit(main())
