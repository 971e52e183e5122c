"""The CEL library without its command line, which would bring a terminal toolkit into every process."""

import sys
from types import ModuleType

_CLI = "cel.cli"
_stand_in = ModuleType(_CLI)
sys.modules.setdefault(_CLI, _stand_in)
import cel  # noqa: E402

if sys.modules[_CLI] is _stand_in:
    # Who wants the command line in this process still finds the real one.
    del sys.modules[_CLI]

__all__ = ["cel"]
