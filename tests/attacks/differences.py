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


_NOT_HIDDEN: Final = (
    "gVisor's kernel shows the maps and the descriptors' names of the agent to its own user; not its memory"
)
_OWN_SOCKET: Final = (
    "runsc takes no listening socket: the agent makes its own in a folder of the container, so that a command can take "
    "it away and answer in its place, for its own container and no other"
)
_OWN_END: Final = (
    "gVisor's kernel is under the container's ceiling itself: too much memory ends the whole computer, which says so "
    "and is started again with its files"
)
GVISOR: Final[Mapping[str, Difference]] = {
    "test_the_switches_of_the_kernel_are_out_of_reach": Difference(_NOT_HIDDEN),
    "test_the_agent_cannot_be_taken_over": Difference(_NOT_HIDDEN),
    "test_the_agent_cannot_be_called_from_inside": Difference(_NOT_HIDDEN),
    "test_only_what_is_declared_is_mounted": Difference(
        "gVisor's kernel does not tell of nosuid in its table of mounts"
    ),
    "test_nobody_takes_the_agents_place": Difference(
        "gVisor's kernel lets the agent's user write its name, /proc/1/comm"
    ),
    "test_there_are_no_devices": Difference("gVisor's kernel has a /dev/net/tun of its own, behind which is nothing"),
    "test_no_command_reaches_the_agents_socket": Difference(_OWN_SOCKET),
    "test_memory_is_taken_from_the_container_alone": Difference(_OWN_END),
    "test_socket_buffers_are_counted": Difference(_OWN_END),
    "test_a_race_of_links_never_leads_out": Difference(
        "the race cannot be run: gVisor's kernel knows no exchange of names (RENAME_EXCHANGE)"
    ),
    "test_a_lease_does_not_make_the_server_wait": Difference(
        "there is nothing to wait for: gVisor's kernel knows no leases (F_SETLEASE)"
    ),
    "test_a_thousand_commands_leave_nothing": Difference(
        "gVisor's kernel keeps some processes in which commands have run for later ones; they end with the container"
    ),
}
"""What the kernel between a container and the host answers in another way."""

DIFFERENCES: Final[Mapping[tuple[str, str], Difference]] = {
    **{("gvisor", test): difference for test, difference in GVISOR.items()},
}
"""By engine and name of the test."""
