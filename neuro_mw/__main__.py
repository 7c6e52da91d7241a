"""``python -m neuro_mw``: the same as ``neuro-mw``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
