"""Run the ``candlestep`` command: ``python -m candlestep.api``."""

import sys

from candlestep.api.cli import main

sys.exit(main())
