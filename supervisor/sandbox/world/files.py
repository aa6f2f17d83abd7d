"""v3: files that agents upload, kept in memory."""

import email.parser
import email.policy
from collections import deque
from dataclasses import dataclass, field

from supervisor.sandbox.world.ids import new_object_id

_KEPT_FILES = 50


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it was uploaded."""

    filename: str
    mime_type: str
    content: bytes = field(repr=False)
    id: str = field(default_factory=new_object_id)


class FileStore:
    """The last files that were uploaded."""

    def __init__(self) -> None:
        self._files: deque[StoredFile] = deque(maxlen=_KEPT_FILES)

    def add(self, file: StoredFile) -> None:
        """Keep a file."""
        self._files.append(file)

    def find(self, file_id: str) -> StoredFile | None:
        """A file that is still kept."""
        return next((file for file in self._files if file.id == file_id), None)

    def all(self) -> list[StoredFile]:
        """All that are kept, oldest first."""
        return list(self._files)


def uploaded_file(content_type: str, body: bytes, *, name: str = "file") -> StoredFile | None:
    """The file in a field of a multipart form; None where there is no such field."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    for part in form.iter_parts() if form.is_multipart() else ():
        if part.get_param("name", header="content-disposition") == name:
            content = part.get_payload(decode=True)
            return StoredFile(
                filename=part.get_filename() or "file",
                mime_type=part.get_content_type(),
                content=content if isinstance(content, bytes) else b"",
            )
    return None
