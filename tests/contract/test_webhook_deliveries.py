"""The sender of webhooks with a real database and real sockets, and a clock of the test's own."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from standardwebhooks import Webhook

from deskhand.egress.dialer import Dialer
from deskhand.egress.post import Poster
from deskhand.egress.sealing import Sealer
from deskhand.engine.backoff import GIVEN_UP_AFTER_S
from deskhand.engine.deliveries import KEPT_S, LEASE_S, MOST_OF_ENDPOINT, Deliveries
from deskhand.engine.signing import Signing, hint, new_secret
from deskhand.ports.store import Page
from deskhand.ports.webhooks import DeliveryRecord, EndpointRecord
from deskhand.store.deliveries import SqlDeliveries
from deskhand.store.sqlite import SqliteDatabase
from deskhand.store.webhooks import SqlWebhooks

pytestmark = pytest.mark.anyio

CREATED = 1_800_000_000
SEALER = Sealer(["k" * 32])


@dataclass
class World:
    """A receiver, an outbox, and a clock."""

    endpoints: SqlWebhooks
    outbox: SqlDeliveries
    port: int = 0
    clock: float = CREATED
    status: int = 200
    hang: bool = False
    open: int = 0
    most_open: int = 0
    heads: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)

    def sender(self, sealer: Sealer = SEALER) -> Deliveries:
        """A process's sender."""
        poster = Poster(Dialer(ssl.create_default_context(), {"127.0.0.1"}), 60)
        return Deliveries(self.outbox, Signing(sealer), poster, lambda: self.clock)

    async def endpoint(self) -> EndpointRecord:
        number, secret = len(self.secrets), new_secret()
        id_ = f"whe_{number}"
        sealed = Signing(SEALER).seal(secret, "proj", id_)
        url = f"http://127.0.0.1:{self.port}/{number}"
        record = EndpointRecord(id_, "proj", "n", url, ("response.completed",), CREATED, CREATED, hint(secret), sealed)
        assert await self.endpoints.add(record, 1000)
        self.secrets[id_] = secret
        return record

    async def owe(self, endpoint: EndpointRecord, count: int = 1) -> None:
        for number in range(count):
            delivery = DeliveryRecord(
                f"wh_{endpoint.id}_{number}",
                "proj",
                endpoint.id,
                "evt_1",
                "response.completed",
                "{}",
                CREATED,
                next_attempt_at=CREATED,
            )
            await self.outbox.add(delivery)

    async def log(self, endpoint: EndpointRecord) -> list[DeliveryRecord]:
        return list((await self.outbox.list("proj", endpoint.id, Page(100))).data)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"{}")).decode()
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            self.heads.append(head)
            if self.hang:
                await reader.read()
            await asyncio.sleep(0.01)
            writer.write(f"HTTP/1.1 {self.status} x\r\ncontent-length: 0\r\n\r\n".encode())
            self.open -= 1
        except (OSError, EOFError):
            self.open -= 1
        finally:
            writer.close()

    def ids(self) -> Counter[str]:
        return Counter(
            line.split(": ")[1] for head in self.heads for line in head.split("\r\n") if "webhook-id" in line
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with SqliteDatabase.open(tmp_path / "store.sqlite") as database:
        made = World(SqlWebhooks(database), SqlDeliveries(database))
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0, backlog=512)
        made.port = server.sockets[0].getsockname()[1]
        try:
            yield made
        finally:
            server.close()


async def once(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(30):
        while not await true():  # noqa: ASYNC110  # it is the database that tells
            await asyncio.sleep(0.02)


@asynccontextmanager
async def all_serving(*senders: Deliveries) -> AsyncIterator[None]:
    """Senders of several processes at the same time."""
    if not senders:
        yield
        return
    async with senders[0].serving(), all_serving(*senders[1:]):
        yield


async def test_several_processes_send_each_delivery_once(world: World) -> None:
    endpoints = [await world.endpoint() for _ in range(5)]
    for endpoint in endpoints:
        await world.owe(endpoint, 12)

    async def done() -> bool:
        logs = [await world.log(endpoint) for endpoint in endpoints]
        return all(entry.state == "delivered" for log in logs for entry in log)

    async with all_serving(*(world.sender() for _ in range(4))):
        await once(done)
    assert len(world.ids()) == 60
    assert set(world.ids().values()) == {1}


async def test_few_connections_to_one_endpoint_are_open_at_a_time(world: World) -> None:
    endpoint = await world.endpoint()
    await world.owe(endpoint, 30)
    world.hang = True

    async def few() -> bool:
        return world.open >= MOST_OF_ENDPOINT

    async with world.sender().serving():
        await once(few)
        other = await world.endpoint()
        await world.owe(other)

        async def more() -> bool:
            return world.open >= MOST_OF_ENDPOINT + 1

        await once(more)
        assert world.most_open == MOST_OF_ENDPOINT + 1


async def test_what_fails_for_three_days_is_given_up_and_said(world: World) -> None:
    endpoint, sender = await world.endpoint(), world.sender()
    await world.owe(endpoint)
    world.status = 500
    moments: list[float] = []

    async def settled() -> bool:
        sender.wake()
        (found,) = await world.log(endpoint)
        return found.state == "failed" or found.next_attempt_at > world.clock

    with structlog.testing.capture_logs() as logged:
        async with sender.serving():
            while True:
                await once(settled)
                moments.append(world.clock)
                (entry,) = await world.log(endpoint)
                if entry.state == "failed":
                    break
                assert entry.next_attempt_at <= CREATED + GIVEN_UP_AFTER_S
                world.clock = entry.next_attempt_at
    assert (entry.status_code, entry.error, entry.finished_at) == (500, "it answered 500", moments[-1])
    assert entry.attempts == len(world.heads) == len(moments)
    assert moments[-1] == CREATED + GIVEN_UP_AFTER_S
    assert set(world.ids().values()) == {len(moments)}
    (said,) = [line for line in logged if line["event"] == "webhook.given_up"]
    assert said["attempts"] == len(moments)
    assert str(world.port) not in str(logged)  # nor any other part of the URL


async def test_what_a_dead_process_was_sending_waits_for_its_lease(world: World) -> None:
    endpoint = await world.endpoint()
    await world.owe(endpoint)
    world.hang = True

    async def reached() -> bool:
        return len(world.heads) == 1

    async with world.sender().serving():
        await once(reached)
    world.hang, sender = False, world.sender()
    async with sender.serving():
        world.clock = CREATED + LEASE_S - 1
        sender.wake()
        await asyncio.sleep(0.3)  # a look at the outbox
        assert len(world.heads) == 1
        world.clock = CREATED + LEASE_S
        sender.wake()

        async def delivered() -> bool:
            return (await world.log(endpoint))[0].state == "delivered"

        await once(delivered)
    assert list(world.ids().values()) == [2]


async def test_an_old_secret_signs_until_its_time_is_over(world: World) -> None:
    endpoint, fresh, signing = await world.endpoint(), new_secret(), Signing(SEALER)
    sealed = signing.seal(fresh, "proj", endpoint.id)
    record = replace(endpoint, secret=sealed, previous=endpoint.secret, previous_until=CREATED + 10)

    def signed(now: int, *secrets: str) -> str:
        moment = datetime.fromtimestamp(now, UTC)
        return " ".join(Webhook(secret).sign("wh_1", moment, "{}") for secret in secrets)

    before = signing.headers(record, "wh_1", "{}", CREATED + 9)
    assert before["webhook-signature"] == signed(CREATED + 9, fresh, world.secrets[endpoint.id])
    after = signing.headers(record, "wh_1", "{}", CREATED + 10)
    assert after["webhook-signature"] == signed(CREATED + 10, fresh)


async def test_what_cannot_be_signed_is_said_and_kept(world: World) -> None:
    endpoint = await world.endpoint()
    await world.owe(endpoint)

    async def told() -> bool:
        return "rotate the endpoint's secret" in (await world.log(endpoint))[0].error

    async with world.sender(Sealer(["x" * 32])).serving():
        await once(told)
    assert world.heads == []
    (entry,) = await world.log(endpoint)
    assert entry.state == "pending"
    world.clock = entry.next_attempt_at

    async def delivered() -> bool:
        return (await world.log(endpoint))[0].state == "delivered"

    async with world.sender().serving():
        await once(delivered)


async def test_the_log_is_kept_for_a_month(world: World) -> None:
    endpoint = await world.endpoint()
    await world.owe(endpoint)

    async def delivered() -> bool:
        return (await world.log(endpoint))[0].state == "delivered"

    async with world.sender().serving():
        await once(delivered)
    await world.outbox.forget(int(world.clock) - KEPT_S, int(world.clock))
    assert len(await world.log(endpoint)) == 1
    world.clock += KEPT_S + 1

    async def forgotten() -> bool:
        return not await world.log(endpoint)

    async with world.sender().serving():
        await once(forgotten)
