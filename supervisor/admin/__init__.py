"""The admin HTTP server on one port: health, metrics, the API, events and the console page.

May import management and what is below; what it asks of the running supervisor is :class:`AdminService`, which it is
given. What a request does belongs to :mod:`supervisor.service.control` and :mod:`supervisor.management`.
"""

from supervisor.admin.door import build_app
from supervisor.admin.interface import AdminService
from supervisor.admin.server import AdminServer

__all__ = ["AdminServer", "AdminService", "build_app"]
