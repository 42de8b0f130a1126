"""Every benchmark, one after the other. Figures are compared within one run: machines differ, and change."""

import os
import platform

from . import background, codex, egress, http, mcp, python, sandbox, search, snapshots, store


def main() -> None:
    """Measure and print everything."""
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, {platform.release()}")
    http.main()
    egress.main()
    sandbox.main()
    snapshots.main()
    python.main()
    store.main()
    background.main()
    search.main()
    mcp.main()
    codex.main()


if __name__ == "__main__":
    main()
