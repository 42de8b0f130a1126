"""Who gives way: the decision, and what is read and written for it."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from deskhand.sandboxes.fairness import LOOK_S, PRESSED_WEIGHT, QUIET_LOOKS, Fairness, Load, giving_way

NAMES = st.sampled_from("abcdefgh")
LOADS = st.dictionaries(NAMES, st.builds(Load, st.floats(0, 8), st.floats(0, 1)), max_size=8)
BEFORE = st.dictionaries(NAMES, st.integers(0, QUIET_LOOKS - 1))


class Host:
    """Groups of containers on a host with two processors, and the looks that are taken at them."""

    def __init__(self, *names: str) -> None:
        self.seconds = dict.fromkeys(names, 0.0)
        self.crowded: set[str] = set()
        self.idle: set[str] = set()
        self.weight = 1.0
        self.reads = 0
        self.gives_way = True
        self._fairness = Fairness(self, 2)
        self._now = 1000.0
        self._fairness.look(self._now)
        self.reads = 0

    def containers(self) -> Sequence[str]:
        return [*self.seconds, "just removed"]

    def used_s(self, name: str = "") -> float:
        self.reads += 1
        if name == "just removed":
            raise FileNotFoundError(name)
        return self.seconds[name] if name else sum(self.seconds.values())

    def crowding(self, name: str) -> float:
        return float(name in self.crowded)

    def set_idle(self, name: str, idle: bool) -> None:
        (self.idle.add if idle else self.idle.discard)(name)

    def set_weight(self, weight: float) -> None:
        self.weight = weight

    def looks(self, count: int, **cpus: float) -> set[str]:
        """Have containers use so many processors each for `count` looks; return who gives way then."""
        for _ in range(count):
            self._now += LOOK_S
            for name, used in cpus.items():
                self.seconds[name] += used * LOOK_S
            self._fairness.look(self._now)
        return set(self.idle)


def test_who_fills_the_processors_gives_way_until_a_while_after() -> None:
    host = Host("spins", "works")
    assert host.looks(5, spins=0.2, works=0.2) == set()
    assert host.looks(3, spins=2.0) == {"spins"}
    assert host.looks(20, spins=1.2, works=0.8) == {"spins"}
    assert host.weight == PRESSED_WEIGHT
    assert host.looks(QUIET_LOOKS - 1) == {"spins"}
    assert host.looks(1) == set()
    assert host.weight == 1.0


def test_what_a_killed_server_has_left_is_undone() -> None:
    host = Host("spins", "works")
    host.looks(5, spins=2.0)
    assert (host.idle, host.weight) == ({"spins"}, PRESSED_WEIGHT)
    Fairness(host, 2).look(5.0)
    assert (host.idle, host.weight) == (set(), 1.0)


def test_who_is_full_of_processes_gives_way_whatever_they_do() -> None:
    host = Host("bomb", "works")
    host.crowded = {"bomb"}
    assert host.looks(1, bomb=0.6) == {"bomb"}
    assert host.looks(20, bomb=0.6, works=0.9) == {"bomb"}, "a bomb does not make those busy that are beside it"


def test_one_file_is_read_while_containers_do_little() -> None:
    host = Host(*(f"c{n}" for n in range(200)))
    host.looks(10, c0=0.4)
    assert host.reads == 10


def test_nothing_is_asked_of_a_host_that_cannot_do_it() -> None:
    host = Host("spins")
    host.gives_way = False
    assert host.looks(5, spins=2.0) == set()
    assert host.reads == 0


@given(LOADS, BEFORE)
def test_only_the_busy_and_the_crowded_begin_to_give_way(loads: dict[str, Load], before: dict[str, int]) -> None:
    after = giving_way(loads, 4, before)
    assert after.keys() <= loads.keys()
    for name in after.keys() - before.keys():
        assert loads[name].cpus >= 0.5 or loads[name].crowding >= 0.75


@given(LOADS)
def test_equals_are_treated_alike(loads: dict[str, Load]) -> None:
    after = giving_way(loads, 4, {})
    for name, load in loads.items():
        for other, same in loads.items():
            if load.crowding < 0.75 and same.crowding < 0.75 and load.cpus <= same.cpus and name in after:
                assert other in after, "who uses more gives way before who uses less"


@given(LOADS, BEFORE)
def test_everybody_is_let_go_in_the_end(loads: dict[str, Load], before: dict[str, int]) -> None:
    for _ in range(QUIET_LOOKS):
        before = dict(giving_way(dict.fromkeys(loads, Load(0.0, 0.0)), 4, before))
    assert before == {}
