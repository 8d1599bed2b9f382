"""``python -m animatic`` is the ``animatic`` command."""

import sys

from animatic.cli import main

if __name__ == "__main__":
    sys.exit(main())
