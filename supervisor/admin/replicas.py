"""The routes about the supervisors that share a registry."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import FastAPI, Path, Response

from supervisor.admin.answers import ERRORS, json_answer, refused
from supervisor.admin.interface import AdminService
from supervisor.core.replicas import ReplicaStatus

_MAX_NUMBER: Final = 2**63 - 1
_ACT: Final[dict[int | str, dict[str, Any]]] = {
    409: refused("There is no such replica, or nobody to give its agents to"),
    422: refused("A malformed number"),
}


def add_replicas(app: FastAPI, service: AdminService) -> None:
    """Add the routes."""

    @app.get(
        "/api/v1/replicas",
        tags=["supervisor"],
        summary="The supervisors that share the registry: how each is, and how many agents it runs",
        response_model=list[ReplicaStatus],
        responses=ERRORS | {503: refused("The registry cannot be read just now")},
    )
    async def replicas() -> Response:
        return json_answer(await service.replicas())

    @app.post(
        "/api/v1/replicas/{replica_id}/drain",
        tags=["supervisor"],
        summary="Have a replica give its agents to the others, one after the other, and get none",
        status_code=HTTPStatus.ACCEPTED,
        response_class=Response,
        responses=ERRORS | _ACT,
    )
    async def drain(
        replica_id: Annotated[int, Path(ge=1, le=_MAX_NUMBER, description="The number of the replica.")],
    ) -> Response:
        await service.drain(replica_id)
        return Response(status_code=HTTPStatus.ACCEPTED)
