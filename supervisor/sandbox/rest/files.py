"""v3: uploads of files (docs/protocol.md#8-third-generation, 8)."""

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from supervisor.sandbox.rest.answers import PlatformError, authenticate, refuse_unlicensed
from supervisor.sandbox.world.faults import NoFileStore
from supervisor.sandbox.world.files import uploaded_file
from supervisor.sandbox.world.routes import Route
from supervisor.sandbox.world.shared import Shared


class FileRoutes:
    """``POST /files/upload``, and where the files are found afterwards (the latter is the sandbox's own)."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def routes(self) -> Iterator[Route]:
        """The routes of the profile."""
        if self._shared.config.profile == "v3":
            yield "POST", "/files/upload", self.upload
            yield "GET", "/files/{file_id}", self.file

    async def upload(self, request: Request) -> JSONResponse:
        """Keep the multipart field ``file``; 500 where the platform has no store."""
        identity = authenticate(self._shared, request)
        refuse_unlicensed(self._shared)
        if self._shared.faults.strike(NoFileStore, identity.id) is not None:
            raise PlatformError(500, "Internal server error")
        file = uploaded_file(request.headers.get("content-type", ""), await request.body())
        if file is None:
            raise PlatformError(400, "Validation failed", errors=["file should not be empty"])
        self._shared.files.add(file)
        self._shared.state.log.add("upload", identity.id, file=file)
        answer = {
            "success": True,
            "fileUrl": f"{str(request.url).removesuffix('/upload')}/{file.id}",
            "filename": file.filename,
            "mimeType": file.mime_type,
            "size": len(file.content),
        }
        return JSONResponse(answer, status_code=201)

    async def file(self, file_id: str) -> Response:
        """A file that was uploaded, for whoever has its URL."""
        file = self._shared.files.find(file_id)
        if file is None:
            raise PlatformError(404, f"File with ID {file_id} not found")
        headers = {"Content-Disposition": "attachment", "X-Content-Type-Options": "nosniff"}
        return Response(file.content, media_type=file.mime_type, headers=headers)
