"""The admin HTTP server: health, metrics, the API and the console page, on one port (DESIGN §6)."""

from supervisor.admin.api import build_app
from supervisor.admin.interface import AdminService
from supervisor.admin.server import AdminServer

__all__ = ["AdminServer", "AdminService", "build_app"]
