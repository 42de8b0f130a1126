"""`/health`: is the server up, and what does it enforce? Needs no key, so it tells nothing of anybody's data."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .. import __version__
from ..engine.containers import Containers
from ..engine.storage_health import StorageHealth
from ..engine.supervisor import Supervisor
from ..ports.sandbox import EngineReport
from .json import json


@dataclass(frozen=True, slots=True)
class HealthApi:
    """The state of the server."""

    containers: Containers
    supervisor: Supervisor
    storage: StorageHealth

    def routes(self) -> list[Route]:
        """The routes of this resource."""
        return [Route("/health", self.health, methods=["GET"])]

    async def health(self, request: Request) -> Response:
        report = self.containers.report
        # Engines that a container may ask for beside the default one.
        others = [_engine(other) for other in report.others]
        return json(
            {
                # 200 all the same: what is stored is still served, and a restart would mend nothing.
                "status": "degraded" if self.storage.trouble else "ok",
                "version": __version__,
                "isolation": {**_engine(report), "hosted_tools": report.usable, "others": others},
                "storage": {"writable": not self.storage.trouble, "trouble": self.storage.trouble or None},
                "runs": self.supervisor.running,
            }
        )


def _engine(report: EngineReport) -> dict[str, object]:
    return {
        "engine": report.engine,
        "level": report.level if report.usable else "none",
        "not_enforced": [{"name": f.name, "detail": f.detail, "mend": f.mend} for f in report.weaknesses],
    }
