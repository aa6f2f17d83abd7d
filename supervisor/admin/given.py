"""What routes are given beside what was sent."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from supervisor.admin.access import Access, access_of

#: A parameter of a route: what the one who asks may do.
Given = Annotated[Access, Depends(access_of)]
