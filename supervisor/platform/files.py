"""Uploads of files, where the platform takes them (docs/protocol.md#8-third-generation, 8)."""

from __future__ import annotations

from typing import Final

import aiohttp

from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.hosts.agent_api import Access, unsuccessful, without_token
from supervisor.platform.hosts.api import Answer, PlatformApi, endpoint_url
from supervisor.protocol.attachments import Attachment
from supervisor.protocol.text import is_attachment

_ANSWER_BYTES: Final = 64 * 1024
#: The statuses of a platform that has no such endpoint.
_ABSENT: Final = (404, 405, 410)


class PlatformFiles:
    """Uploads files to the platform, for all agents.

    Args:
        api: makes the requests.
        proxy: an HTTP proxy's URL; it may hold a user and a password.
    """

    def __init__(self, api: PlatformApi, *, proxy: str | None = None) -> None:
        self._api = api
        self._proxy = proxy

    async def upload(self, access: Access, content: bytes, name: str, media_type: str) -> Attachment:
        """Upload one file; where it is found, for an attachment of a reply.

        Raises:
            PlatformError: REJECT where the platform takes no files, or not this one; RETRY for passing trouble. The
                token never occurs in its reason.
        """
        form = aiohttp.FormData()
        form.add_field("file", content, filename=name, content_type=media_type)
        headers = {"Authorization": f"Bearer {access.token}"}
        url = endpoint_url(access.api_url, "files", "upload")
        failure: PlatformError | None = None
        try:
            answer = await self._api.request(
                "POST", url, limit_bytes=_ANSWER_BYTES, proxy=self._proxy, headers=headers, data=form
            )
            return _read(answer, name, media_type, len(content))
        except PlatformError as error:
            failure = without_token(error, access.token)
        raise failure


def _read(answer: Answer, name: str, media_type: str, size: int) -> Attachment:
    """The file that was uploaded.

    Raises:
        PlatformError: none was.
    """
    if answer.status in _ABSENT:
        raise PlatformError(f"{answer.host} takes no uploads of files", Verdict.REJECT)
    if answer.status == 401:
        raise PlatformError(f"{answer.host} refused the token for an upload", Verdict.REAUTHENTICATE)
    if not 200 <= answer.status < 300:
        # 500 is what a platform without a store says; nobody can tell it from other trouble.
        raise unsuccessful(answer, "to an upload")
    said = answer.json()
    url = said.get("fileUrl") if isinstance(said, dict) else None
    if not (isinstance(url, str) and is_attachment(url)):
        raise PlatformError(f"{answer.host} took a file and did not say where it is")
    return Attachment(url, name=name, media_type=media_type, size=size)
