"""Imported once by the forkserver, so that each solve starts with everything loaded. Nothing else may import it."""

from __future__ import annotations

import importlib
import signal

# A SIGTERM to the whole process group (a service manager stopping the service) must reach only the server, which then
# stops each solve in good order. Every solve inherits this.
signal.signal(signal.SIGTERM, signal.SIG_IGN)

importlib.import_module("app.worker")
importlib.import_module("solver.warm_up").warm_up()
