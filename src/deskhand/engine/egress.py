"""The containers' ways out: opened when a computer starts or is found again, closed when its container ends.

Values of secrets are sealed before they are stored, and in the clear in memory only, for as long as their container
lives. A copy of a container gets none.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from ..core.errors import not_found
from ..egress.authority import trust_store
from ..egress.door import Door, Use
from ..egress.environment import BUNDLE, TRUST_STORE, WGETRC, variables, wgetrc
from ..egress.gate import Gate
from ..egress.policy import Policy, Rule
from ..egress.proxy import Proxy
from ..egress.sealing import Sealer, Unsealable
from ..egress.secrets import Secret, Vault, new_placeholder
from ..ports.sandbox import SandboxEngine
from ..ports.store import ContainerRecord, EgressRecord, EgressStore, Listing, Page, StoredSecret
from ..wire.network import ContainerSecret, DomainSecret, NetworkPolicy, SetSecret
from .background import beside, repeatedly
from .network_policy import NetworkPlan, check_value, check_values, plan, rules_of

log = structlog.get_logger()

FORGET_EVERY_S = 3600.0
SETTLE_S = 2.0
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """The operator's part: what containers may reach at most, and for how many days records are kept."""

    ceiling: tuple[Rule, ...] = ()
    record_days: int = 30


class Egress:
    """Every container's way out. Use as `async with egress.serving()`."""

    def __init__(
        self,
        store: EgressStore,
        engine: SandboxEngine,
        proxy: Proxy,
        sealer: Sealer,
        policy: EgressPolicy,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._engine = engine
        self._proxy = proxy
        self._sealer = sealer
        self._policy = policy
        self._now = now
        self._gates: dict[str, Gate] = {}
        self._changing = asyncio.Lock()
        """Held from when values are stored or read until a gate has them, so that the last ones stay."""
        self._trusted: dict[bytes, Mapping[str, bytes]] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Egress"]:
        """Write records until the block ends; then close every way out."""
        tidying = repeatedly("egress.forgetting", self._forget, FORGET_EVERY_S)
        async with self._proxy.journal.writing(), beside(tidying):
            try:
                yield self
            finally:
                for container_id in list(self._gates):
                    await self.close(container_id)

    def plan(self, policy: NetworkPolicy | None, where: str) -> NetworkPlan:
        """Check a request's policy against the operator's ceiling. Raises `ApiError`."""
        return plan(policy, self._policy.ceiling, where)

    async def keep(self, record: ContainerRecord, secrets: Sequence[DomainSecret]) -> None:
        """Seal and store secrets of a container, or other values for those it has, also while it runs."""
        if not secrets:
            return
        async with self._changing:
            placeholders = {row.name: row.placeholder for row in await self._store.secrets(record.id)}
            rows = []
            for secret in secrets:
                placeholder = placeholders.setdefault(secret.name, new_placeholder())
                sealed = self._sealer.seal(secret.value.encode(), _context(record, secret.name, secret.domain))
                rows.append(StoredSecret(record.id, secret.name, secret.domain, placeholder, sealed))
            await self._store.keep_secrets(rows)
            if (gate := self._gates.get(record.id)) is not None:
                fresh = gate.door.vault.updated(self._opened(record, rows))
                gate.door.vault = await asyncio.to_thread(fresh.prepared)

    async def replace(self, record: ContainerRecord, given: SetSecret) -> ContainerSecret:
        """Give a secret of a container another value, at once. Raises `ApiError` (404 for a name it does not have)."""
        check_value(given.value, "value")
        rows = await self._store.secrets(record.id)
        domains = [row.domain for row in rows if row.name == given.name and given.domain in (None, row.domain)]
        if not domains:
            raise not_found("Secret", given.name, param="name")
        others = [row for row in rows if row.name != given.name or row.domain not in domains]
        check_values([*(one.value for one in self._opened(record, others)), *[given.value.encode()] * len(domains)])
        await self.keep(record, [DomainSecret(domain=d, name=given.name, value=given.value) for d in domains])
        return ContainerSecret(container_id=record.id, name=given.name, domains=domains)

    async def open(self, record: ContainerRecord) -> Mapping[str, str] | None:
        """Open a container's way out; the variables that its computer needs. None if its policy has none.

        Call it before the computer starts, and again for one that is found running. Raises `SandboxError`, `OSError`.
        """
        if not record.network:
            return None
        outlet = await self._engine.outlet(record.id)
        gate = self._gates.get(record.id)
        if gate is None:
            policy = Policy(rules_of(record.network), self._policy.ceiling)
            files = {**await self._certificates(policy), WGETRC: wgetrc(outlet.folder)}
            await asyncio.to_thread(_publish, outlet.socket.parent, files)
            async with self._changing:
                vault = Vault(self._opened(record, await self._store.secrets(record.id)))
                await asyncio.to_thread(vault.prepared)
                gate = Gate(self._proxy, Door(record.owner, record.id, policy, vault))
                await gate.open(outlet.socket)
                self._gates[record.id] = gate
        return {**variables(outlet.folder, outlet.proxy), **gate.door.vault.environment}

    async def close(self, container_id: str) -> None:
        """Cut everything that a container has open, and let nothing more out. Idempotent."""
        if (gate := self._gates.pop(container_id, None)) is not None:
            await gate.close()

    async def forget(self, container_id: str) -> None:
        """Close the way out of a container that has ended, and destroy its secrets. Idempotent."""
        await self.close(container_id)
        await self._store.forget_secrets(container_id)

    def used_by(self, container_id: str, use: Use) -> None:
        """Note which call uses a container from now on, for the records."""
        if (gate := self._gates.get(container_id)) is not None:
            gate.door.use = use

    async def records(self, owner: str, container_id: str, page: Page) -> Listing[EgressRecord]:
        """A page of what a container tried, also after it is gone, with what has just ended. Raises `ApiError`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self._proxy.journal.settled()
        return await self._store.list(owner, container_id, page)

    def _opened(self, record: ContainerRecord, rows: Sequence[StoredSecret]) -> tuple[Secret, ...]:
        """Secrets with their values, without those that cannot be opened: their requests fail, the others do not."""
        found = []
        for row in rows:
            try:
                value = self._sealer.open(row.sealed, _context(record, row.name, row.domain))
            except Unsealable as exc:
                log.error("egress.secret_lost", container_id=record.id, name=row.name, reason=str(exc))
                continue
            found.append(Secret(row.name, row.domain, row.placeholder, value))
        return tuple(found)

    async def _certificates(self, policy: Policy) -> Mapping[str, bytes]:
        """What the container trusts: this installation alone, unless it sees the certificates of other servers."""
        authority = self._proxy.authority
        passes = any(rule.passthrough for rule in policy.rules)
        bundle = authority.with_host() if passes else authority.certificate
        if bundle not in self._trusted:
            self._trusted[bundle] = {BUNDLE: bundle, TRUST_STORE: await asyncio.to_thread(trust_store, bundle)}
        return self._trusted[bundle]

    async def _forget(self) -> None:
        await self._store.forget_records(int(self._now() * 1000) - self._policy.record_days * DAY_MS)


def _context(record: ContainerRecord, name: str, domain: str) -> Sequence[str]:
    return record.owner, record.id, name, domain


def _publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put files where the container sees them. Each appears whole: the container may be running."""
    for name, data in files.items():
        draft = folder / f".{name}"
        draft.write_bytes(data)
        draft.chmod(0o644)
        draft.rename(folder / name)
