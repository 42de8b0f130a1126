"""Network policies of containers, and the record of what left (API reference, "Containers", and our extensions)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class DomainSecret(Struct, frozen=True, kw_only=True):
    """A secret for one domain. Never echoed."""

    domain: Annotated[str, Meta(min_length=1, max_length=512)]
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    value: Annotated[str, Meta(min_length=1, max_length=10_485_760)]

    def __repr__(self) -> str:
        return f"DomainSecret(domain={self.domain!r}, name={self.name!r})"


class NetworkRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A rule for one of the allowed domains, instead of all that an entry of `allowed_domains` opens. Ours.

    Several rules of a domain each open what they say.
    """

    domain: Annotated[str, Meta(min_length=1, max_length=512)]
    ports: Annotated[list[Annotated[int, Meta(ge=1, le=65535)]], Meta(min_length=1, max_length=32)] | None = None
    methods: (
        Annotated[list[Annotated[str, Meta(pattern="^[A-Za-z]{1,16}$")]], Meta(min_length=1, max_length=16)] | None
    ) = None
    path_prefixes: (
        Annotated[list[Annotated[str, Meta(pattern="^/[!-~]*$", max_length=1024)]], Meta(min_length=1, max_length=64)]
        | None
    ) = None
    passthrough: bool = False
    mirror: bool = False


class DisabledNetwork(Struct, frozen=True, kw_only=True, tag_field="type", tag="disabled"):
    """No network."""


class AllowlistNetwork(Struct, frozen=True, kw_only=True, tag_field="type", tag="allowlist"):
    """Only these domains."""

    allowed_domains: Annotated[list[str], Meta(min_length=1, max_length=256)]
    domain_secrets: Annotated[list[DomainSecret], Meta(min_length=1, max_length=64)] | None = None
    rules: Annotated[list[NetworkRule], Meta(max_length=256)] | None = None


NetworkPolicy = DisabledNetwork | AllowlistNetwork


class SecretName(Struct, frozen=True, kw_only=True):
    """A secret without its value."""

    domain: str
    name: str


class StoredPolicy(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A policy as a container's record keeps it: checked, in one form, without any value."""

    allowed_domains: list[str]
    rules: list[NetworkRule] = []
    secrets: list[SecretName] = []


class SetSecret(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/containers/{id}/secrets`: another value for a secret that the container has. Ours."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    value: Annotated[str, Meta(min_length=1, max_length=10_485_760)]
    domain: str | None = None

    def __repr__(self) -> str:
        return f"SetSecret(name={self.name!r}, domain={self.domain!r})"


class ContainerSecret(Struct, frozen=True, kw_only=True):
    """A secret of a container, without its value."""

    container_id: str
    name: str
    domains: list[str]
    object: Literal["container.secret"] = "container.secret"


class EgressEntry(Struct, frozen=True, kw_only=True):
    """One attempt to leave a container. `created_at` is in unix seconds, with fractions."""

    id: str
    created_at: float
    container_id: str
    response_id: str | None
    call_id: str | None
    host: str
    port: int
    method: str
    path: str
    decision: Literal["allowed", "denied"]
    reason: str | None
    rule: str | None
    verified: bool
    status: int | None
    bytes_out: int
    bytes_in: int
    secrets: list[str]
    object: Literal["container.egress"] = "container.egress"
