"""What `launch/tpu.py` is made of: one job, and the ways to get machines for it."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - it runs with whatever Python a laptop has
    sys.exit(f"launch/tpu.py: got Python {sys.version.split()[0]}, expected 3.11 or newer")
