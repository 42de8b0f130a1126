"""What readers share of calls whose arguments say nothing before they are whole."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from ..core.drafts import Draft, Opened
from ..wire.items import Item
from .arguments import PartialArguments

ItemT = TypeVar("ItemT", bound=Item)


class WholeReader:
    """Collects the arguments of a call that is shown at its end."""

    def __init__(self) -> None:
        self._arguments = PartialArguments()

    def feed(self, arguments: str) -> Sequence[Draft]:
        """See `CallReader`."""
        self._arguments.keep(arguments)
        return []


class AnnouncedReader(WholeReader, Generic[ItemT]):
    """The same for a call whose item is opened when it begins."""

    def __init__(self, item: ItemT) -> None:
        super().__init__()
        self._item = item
        self._opened = False

    def feed(self, arguments: str) -> Sequence[Draft]:
        """See `CallReader`."""
        super().feed(arguments)
        if self._opened:
            return []
        self._opened = True
        return [Opened(self._item)]
