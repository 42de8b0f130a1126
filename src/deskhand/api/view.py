"""What of a response its reader asked to see. All is stored; parts are shown only to who names them in `include`."""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec
from starlette.requests import Request

from ..core.validation import api_error
from ..wire.events import Event
from ..wire.items import CodeInterpreterCall, FileSearchCall, Item
from ..wire.request import Include
from ..wire.response import Response

CODE_OUTPUTS = "code_interpreter_call.outputs"
SEARCH_RESULTS = "file_search_call.results"


@dataclass(frozen=True, slots=True)
class View:
    """Shows items, and what holds them, as the API does with these `include` values."""

    include: Collection[str] = ()

    def item(self, item: Item) -> Item:
        """The item without what was not asked for (API reference, "include")."""
        if isinstance(item, CodeInterpreterCall) and CODE_OUTPUTS not in self.include:
            return msgspec.structs.replace(item, outputs=None)
        if isinstance(item, FileSearchCall) and SEARCH_RESULTS not in self.include:
            return msgspec.structs.replace(item, results=None)
        return item

    def response(self, response: Response) -> Response:
        """The response with its items as they are shown."""
        return msgspec.structs.replace(response, output=[self.item(item) for item in response.output])

    def event(self, event: Event) -> Event:
        """The event with the item or response in it as that is shown."""
        match event.fields:
            case {"item": item}:
                return Event(event.type, event.sequence_number, {**event.fields, "item": self.item(item)})
            case {"response": response}:
                return Event(event.type, event.sequence_number, {**event.fields, "response": self.response(response)})
            case _:
                return event


def read_view(request: Request) -> View:
    """The `include` of a query string, however clients spell lists. Raises `ApiError`."""
    query = request.query_params
    asked = [*query.getlist("include"), *query.getlist("include[]")]
    try:
        return View(frozenset(msgspec.convert(asked, list[Include])))
    except msgspec.ValidationError as exc:
        raise api_error(exc, "include") from None
