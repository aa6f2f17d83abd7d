"""The wire between the providers' clients and what really answers: proxies, gateways and servers of every kind.

`transport` stands below the clients and gives each of them the event stream that it reads, whatever came; `forms` reads
answers that are no stream, `reports` what an answer says of its tokens. Nothing here knows of agents or people.
"""

from .forms import Provider
from .reports import Report
from .transport import AnswersClient, Exchange, exchanging

__all__ = ["AnswersClient", "Exchange", "Provider", "Report", "exchanging"]
