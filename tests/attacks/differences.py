"""What an engine does not hold against, with the reason. Each is shown in `docs/reference/attacks.md`.

A test of a difference is run all the same and must fail: a difference that is none any more is to be deleted here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Difference:
    """Why an engine differs. `run` is False where trying would hurt more than the container itself."""

    reason: str
    run: bool = True


OPEN: Final[Mapping[str, Difference]] = {
    "test_the_hosts_asynchronous_io_is_not_used_up": Difference("open: the filter does not refuse io_setup(2)"),
    "test_a_neighbour_still_gets_a_terminal": Difference(
        "open: the terminals of all containers come out of one count (kernel.pty.max), and no container has a share"
    ),
    "test_socket_buffers_are_counted": Difference(
        "open under cgroups v1: socket buffers are counted only if memory.kmem.tcp.limit_in_bytes is set"
    ),
    "test_a_heavy_listing_holds_up_nobody": Difference(
        "open: walks through a container's files share six threads with everything else that the server does"
    ),
    "test_what_is_kept_is_the_servers_alone": Difference(
        "open: a data directory that was there before stays as readable as it was, and the database with it"
    ),
    "test_no_setting_of_the_kernel_is_writable": Difference("open: /proc/sys is not mounted read-only"),
}
"""What fresh eyes have found and nobody has mended yet, by name of the test."""

DIFFERENCES: Final[Mapping[tuple[str, str], Difference]] = {
    **{("bubblewrap", test): difference for test, difference in OPEN.items()},
}
"""By engine and name of the test."""
