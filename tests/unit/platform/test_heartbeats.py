"""What heartbeats say of an agent, and what is read out of their answers."""

from typing import Any

import pytest

from supervisor.core.errors import PlatformError, Verdict
from supervisor.core.records import Sleep
from supervisor.platform.heartbeats import HeartbeatAnswer, Pulse, Task, parse_heartbeat

WORK_ID = "65a000000000000000000001"
WORK = {"id": WORK_ID, "title": "Tidy up", "type": "task", "status": "todo", "priorityLevel": 2}


class Life:
    """An agent as its heartbeats see it."""

    def __init__(self) -> None:
        self.takes = False
        self.works = False
        self.sleep: Sleep | None = None
        self.tasks: list[Task] = []
        self.pulse = Pulse(
            takes_tasks=lambda: self.takes,
            working=lambda: self.works,
            sleep=lambda: self.sleep,
            on_task=self.tasks.append,
        )


def test_an_agent_that_takes_no_works_asks_for_none() -> None:
    life = Life()
    assert life.pulse.payload() == {"status": "idle", "mcpConnected": False}
    assert life.pulse.body() == {"status": "busy"}
    assert not life.pulse.wanted_by_rest


def test_an_agent_that_takes_works_asks_for_them_while_it_has_nothing_to_do() -> None:
    life = Life()
    life.takes = True
    assert life.pulse.payload() == {"status": "idle", "mcpConnected": True}
    assert life.pulse.body() == {"status": "idle"}
    assert life.pulse.wanted_by_rest
    life.works = True
    assert life.pulse.payload() == {"status": "busy", "mcpConnected": True}
    assert life.pulse.body() == {"status": "busy"}


def test_a_platform_that_hands_out_works_unasked_is_told_busy_and_the_handler_nothing() -> None:
    life = Life()
    answer = parse_heartbeat({"success": True, "work": WORK})
    life.pulse.take(answer)
    assert life.tasks == []
    assert life.pulse.payload()["status"] == "busy"
    life.takes = True
    assert life.pulse.payload()["status"] == "idle"
    life.pulse.take(answer)
    assert [task.id for task in life.tasks] == [WORK_ID]


def test_a_sleeping_agent_says_why_and_until_when() -> None:
    life = Life()
    life.sleep = Sleep(1_700_000_000.0, 1_700_003_600.5, "night")
    told = {"reason": "night", "since": "2023-11-14T22:13:20.000Z", "until": "2023-11-14T23:13:20.500Z"}
    assert life.pulse.payload() == {"status": "sleep", "mcpConnected": False, "sleep": told}
    life.sleep = Sleep(1_700_000_000.0)
    assert life.pulse.payload()["sleep"] == {"reason": "", "since": "2023-11-14T22:13:20.000Z"}


def test_what_was_handed_out_before_it_fell_asleep_waits_until_it_is_awake() -> None:
    life = Life()
    life.takes = True
    life.sleep = Sleep(1_700_000_000.0)
    answer = parse_heartbeat({"success": True, "work": WORK})
    life.pulse.take(answer)
    assert life.tasks == [], "it would be cancelled, and count as undone when it is handed out again"
    life.sleep = None
    life.pulse.take(answer)
    assert [task.id for task in life.tasks] == [WORK_ID]


def test_a_work_is_read_with_what_the_platform_says_of_it() -> None:
    answer = {
        "success": True,
        "work": WORK,
        "systemMessage": "Do it now.",
        "systemTask": {"type": "work", "id": WORK_ID, "title": "Tidy up"},
    }
    [task] = parse_heartbeat(answer).tasks
    facts = {"title": "Tidy up", "type": "task", "status": "todo", "priorityLevel": 2}
    assert task == Task("work", WORK_ID, "Do it now.", facts)
    # Either place will do.
    del answer["work"], answer["systemMessage"]
    assert parse_heartbeat(answer).tasks == (Task("work", WORK_ID, "Tidy up", {"title": "Tidy up", "type": "work"}),)


def test_reminders_are_read_one_by_one_and_malformed_ones_are_left_out() -> None:
    reminders = [{"id": "a", "content": "Water\u202e the plants"}, {"id": "b"}, {"id": 1, "content": "x"}, "c"]
    answer = {"success": True, "systemTask": {"type": "reminders", "reminders": reminders}}
    assert parse_heartbeat(answer).tasks == (Task("reminder", "a", "Water the plants"),)


def test_a_token_is_read_and_not_shown() -> None:
    answer = parse_heartbeat({"success": True, "token": "eyJ0"})
    assert answer.token == "eyJ0"
    assert "eyJ0" not in repr(answer)
    assert parse_heartbeat({"success": True, "token": 7, "work": 3, "systemTask": []}) == HeartbeatAnswer()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"success": False, "error": "Agent is suspended. Heartbeat rejected."}, Verdict.REJECT),
        ({"success": False, "error": f"Agent with ID {WORK_ID} not found"}, Verdict.REJECT),
        ({"success": False, "error": "Agent not found"}, Verdict.REJECT),
        ({"success": False, "error": f"Work with ID {WORK_ID} not found"}, Verdict.RETRY),
        ({"success": False, "error": f"Agent with ID {WORK_ID} takes no works"}, Verdict.RETRY),
        ({"statusCode": 400, "message": "Agent is suspended. Heartbeat rejected."}, Verdict.REJECT),
        ({"success": False, "error": "sleep field is required when status is sleep"}, Verdict.RETRY),
        ({"success": False}, Verdict.RETRY),
        ("yes", Verdict.RETRY),
    ],
)
def test_a_refusal_says_whether_the_agent_is_refused(answer: Any, verdict: Verdict) -> None:
    with pytest.raises(PlatformError) as caught:
        parse_heartbeat(answer)
    assert caught.value.verdict is verdict
