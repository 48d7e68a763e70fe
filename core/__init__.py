"""The agent kernel: lifecycle, meters, gateway, journal and their two faces.

This package never imports textual, rich, ``agenttop.tui`` or ``agenttop.backends``; a test proves it.
"""

__version__ = "0.1.0"
