"""Uploads of files, where the platform takes them (docs/protocol.md#8-third-generation, 8)."""

from __future__ import annotations

from typing import Final

import aiohttp

from supervisor.core.errors import PlatformError, Verdict
from supervisor.platform.hosts.agent_api import Access, AgentApi, unsuccessful
from supervisor.platform.hosts.api import Answer
from supervisor.protocol.attachments import Attachment
from supervisor.protocol.text import is_attachment

_ANSWER_BYTES: Final = 64 * 1024


class PlatformFiles:
    """Uploads files to the platform, for all agents.

    Args:
        api: asks with the agent's token.
    """

    def __init__(self, api: AgentApi) -> None:
        self._api = api

    async def upload(self, access: Access, content: bytes, name: str, media_type: str) -> Attachment:
        """Upload one file; where it is found, for an attachment of a reply.

        Raises:
            PlatformError: REJECT where the platform takes no files, or not this one; RETRY for passing trouble. The
                token never occurs in its reason.
        """
        form = aiohttp.FormData()
        form.add_field("file", content, filename=name, content_type=media_type)
        # A handler waits for it.
        answer = await self._api.ask(access, "files", "upload", body=form, limit_bytes=_ANSWER_BYTES, at_leisure=False)
        return _read(answer, name, media_type, len(content))


def _read(answer: Answer, name: str, media_type: str, size: int) -> Attachment:
    """The file that was uploaded.

    Raises:
        PlatformError: none was.
    """
    if answer.no_endpoint:
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
