"""An agent that is added to the fleet's file comes online while the others stay as they are."""

from __future__ import annotations

import json
from pathlib import Path

from supervisor.core.states import AgentState
from tests.support.observing import figures
from tests.support.stack import SECRET, SECRET_FILE, agent_id, stack


def fleet(folder: Path, *numbers: int, handler: str = "echo") -> str:
    """The file of a fleet of these agents."""
    secret = f"file:{folder / SECRET_FILE}"
    return json.dumps({"agents": [{"id": agent_id(one), "handler": handler, "secret": secret} for one in numbers]})


async def test_the_fleet_follows_its_file_and_a_bad_one_leaves_it_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(fleet(tmp_path, 1))
    refused = "supervisor_agents_file_refused"
    async with stack(tmp_path, agents_file=file, agents_prune=True) as running:
        for number in (1, 2, 3):
            running.sandbox.add_agent(agent_id(number), SECRET)
        await running.service.control.resume(agent_id(1))
        await running.online(1)

        file.write_text(fleet(tmp_path, 1, 2))
        await running.online(2)
        assert figures(running.service.metrics)[refused] == 0
        # The first kept its socket.
        assert figures(running.service.metrics)['supervisor_connection_attempts_total{outcome="online"}'] == 2

        file.write_text("agents: [")
        await running.until(lambda: figures(running.service.metrics)[refused] == 1)
        [notice] = running.service.control.overview().notices
        assert notice.startswith("AGENTS_FILE is not taken, the fleet stays as it is")
        assert running.service.control.overview().agents == {"online": 2}
        assert running.service.problems() == ()

        file.write_text(fleet(tmp_path, 2, 3))
        await running.state(agent_id(3), AgentState.ONLINE)
        await running.until(lambda: [s.id for s in running.service.control.statuses()] == [agent_id(2), agent_id(3)])
        assert running.service.control.overview().notices == ()
        assert figures(running.service.metrics)[refused] == 0
