"""The way into a namespace and out of it, frame by frame and without a socket (docs/protocol.md#2-addresses)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.platform.transport.handshake import Handshake, Phase
from supervisor.platform.transport.wires.frames import MalformedFrameError, Namespace

NAMESPACE = "/dev/aiwm/chat"
OPEN = '0{"sid":"engine","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
ACK = f'40{NAMESPACE},{{"sid":"abc"}}'
KICK = f"41{NAMESPACE},"
REFUSAL = f'44{NAMESPACE},{{"message":"Invalid token"}}'


def handshake(namespace: str = NAMESPACE, **auth: str) -> Handshake:
    """One whose WebSocket is there."""
    made = Handshake(Namespace(namespace), auth or {"token": "t"})
    made.upgraded()
    return made


def joining() -> Handshake:
    made = handshake()
    made.receive(OPEN)
    return made


def joined() -> Handshake:
    made = joining()
    made.receive(ACK)
    return made


def test_the_way_in() -> None:
    made = Handshake(Namespace(NAMESPACE), {"token": "t"})
    phases, answers = [made.phase], []
    made.upgraded()
    phases.append(made.phase)
    for frame in (OPEN, ACK):
        answers.append(made.receive(frame))
        phases.append(made.phase)
    assert phases == [Phase.CONNECTING, Phase.OPENING, Phase.JOINING, Phase.JOINED]
    assert answers == [b'40/dev/aiwm/chat,{"token":"t"}', None]
    assert made.opened is not None
    assert (made.opened.silence_seconds, made.opened.max_payload) == (45.0, 1_000_000)
    assert (made.sid, made.end, made.refusal) == ("abc", "", None)


def test_a_websocket_that_is_there_twice_is_there_once() -> None:
    made = joining()
    made.upgraded()
    assert made.phase is Phase.JOINING


@pytest.mark.parametrize(
    ("namespace", "auth", "connect"),
    [
        ("/", {"token": "t"}, b'40{"token":"t"}'),
        ("/ws", {}, b"40/ws,{}"),
        ("/ws/chat", {"token": 'a"b\\c'}, b'40/ws/chat,{"token":"a\\"b\\\\c"}'),
    ],
)
def test_connect_is_written_for_any_namespace(namespace: str, auth: dict[str, str], connect: bytes) -> None:
    made = Handshake(Namespace(namespace), auth)
    made.upgraded()
    assert made.receive(OPEN) == connect


@pytest.mark.parametrize("frame", ["40/ws", "40/ws,", "40/ws,{}", '40/ws,{"sid":5}', '40/ws,{"sid":""}'])
def test_an_ack_needs_no_id(frame: str) -> None:
    made = handshake("/ws")
    made.receive(OPEN)
    made.receive(frame)
    assert (made.phase, made.sid) == (Phase.JOINED, "")


@pytest.mark.parametrize("frame", ["", "2", "hello", "0", "0{}", "0[]", ACK, '42/ws,["x"]', OPEN.replace("25000", "0")])
def test_a_first_frame_that_is_no_open_ends_it(frame: str) -> None:
    made = handshake()
    assert made.receive(frame) is None
    assert (made.phase, made.reached, made.answered) == (Phase.ENDED, Phase.OPENING, True)


def test_a_first_frame_that_is_binary_ends_it() -> None:
    made = handshake()
    made.receive_binary()
    assert (made.phase, made.reached, made.answered) == (Phase.ENDED, Phase.OPENING, True)


def test_a_later_binary_frame_means_nothing() -> None:
    for made in (joining(), joined()):
        before = made.phase
        with pytest.raises(MalformedFrameError, match="binary_frame"):
            made.receive_binary()
        assert made.phase is before


@pytest.mark.parametrize("make", [joining, joined])
@pytest.mark.parametrize(("ping", "pong"), [("2", b"3"), ("2probe", b"3probe"), ("2" + "x" * 62, b"3" + b"x" * 62)])
def test_pings_are_answered_before_and_after_the_ack(make: Callable[[], Handshake], ping: str, pong: bytes) -> None:
    assert make().receive(ping) == pong


@pytest.mark.parametrize(
    ("frame", "end"),
    [
        (KICK, "server disconnect"),
        (KICK[:-1], "server disconnect"),
        ("1", "transport close"),
        (REFUSAL, "refused"),
        (f"44{NAMESPACE}", "refused"),
    ],
)
@pytest.mark.parametrize("make", [joining, joined])
def test_the_platform_can_end_it_at_any_time(make: Callable[[], Handshake], frame: str, end: str) -> None:
    one = make()
    before = one.phase
    assert one.receive(frame) is None
    assert (one.phase, one.reached, one.end) == (Phase.ENDED, before, end)
    assert one.leave() == ()


@pytest.mark.parametrize(
    ("frame", "refusal"),
    [
        (REFUSAL, "Invalid token"),
        (f'44{NAMESPACE},"no"', "no"),
        (f"44{NAMESPACE},", ""),
        (f"44{NAMESPACE},not json", ""),
        (f'44{NAMESPACE},{{"message":{{}}}}', ""),
    ],
)
def test_a_refusal_is_kept_whatever_shape_it_has(frame: str, refusal: str) -> None:
    made = joining()
    made.receive(frame)
    assert made.refusal == refusal


@pytest.mark.parametrize(
    "frame", ["5", "7", "4", "49/x,[]", "40/other,{}", "41/other,", "44/other,{}", "2" + "x" * 64, ""]
)
@pytest.mark.parametrize("make", [joining, joined])
def test_frames_that_mean_nothing_change_nothing(make: Callable[[], Handshake], frame: str) -> None:
    one = make()
    before = one.phase
    with pytest.raises(MalformedFrameError, match="unknown_packet"):
        one.receive(frame)
    assert one.phase is before


def test_a_noop_is_nothing_to_speak_of() -> None:
    assert joined().receive("6") is None


@pytest.mark.parametrize("frame", [f"40{NAMESPACE},[1]", f"40{NAMESPACE},{{"])
def test_an_ack_that_cannot_be_read_is_none(frame: str) -> None:
    made = joining()
    with pytest.raises(MalformedFrameError):
        made.receive(frame)
    assert made.phase is Phase.JOINING


def test_a_second_ack_is_one_too_many() -> None:
    made = joined()
    with pytest.raises(MalformedFrameError, match="second_connect"):
        made.receive(ACK.replace("abc", "other"))
    assert (made.phase, made.sid) == (Phase.JOINED, "abc")


def test_goodbye_is_said_where_there_is_somebody_to_say_it_to() -> None:
    assert handshake().leave() == ()
    assert joining().leave() == ()
    assert joined().leave() == (b"41/dev/aiwm/chat,", b"1")
    root = handshake("/")
    root.receive(OPEN)
    root.receive("40")
    assert root.leave() == (b"41", b"1")


def test_the_first_reason_for_an_end_counts() -> None:
    made = joined()
    assert made.lose("ping timeout")
    assert not made.lose("transport error")
    assert made.receive(KICK) is None
    made.receive_binary()
    assert (made.end, made.reached) == ("ping timeout", Phase.JOINED)


_TYPES = ("40", "41", "42", "43", "44", "45", "4")
_FRAMES = st.one_of(
    st.sampled_from([OPEN, ACK, KICK, REFUSAL, "1", "2", "2probe", "3", "6", "", "40", "41", "44", "0{}"]),
    st.text(max_size=20),
    st.builds("".join, st.tuples(*map(st.sampled_from, (_TYPES, ("", NAMESPACE), ("", ","), ("", "{}", "[", "{"))))),
    st.builds(
        lambda i, t: "0" + json.dumps({"sid": "s", "pingInterval": i, "pingTimeout": t}), st.integers(), st.integers()
    ),
)
_ORDER = list(Phase)


@given(st.lists(st.one_of(_FRAMES, st.sampled_from([None, "LOSE"])), max_size=12))
def test_whatever_comes_it_only_goes_forward_and_answers_only_open_and_ping(frames: list[str | None]) -> None:
    made = handshake()
    for frame in frames:
        before, end = made.phase, made.end
        answer = None
        try:
            if frame is None:
                made.receive_binary()
            elif frame == "LOSE":
                made.lose("transport error")
            else:
                answer = made.receive(frame)
        except MalformedFrameError:
            assert made.phase is before, "what means nothing changes nothing"
        assert _ORDER.index(made.phase) >= _ORDER.index(before)
        assert (made.end != "") is (made.phase is Phase.ENDED)
        if before is Phase.ENDED:
            assert (answer, made.end) == (None, end)
        if answer is not None and before is Phase.OPENING:
            assert answer == b'40/dev/aiwm/chat,{"token":"t"}'
            assert made.phase is Phase.JOINING
        elif answer is not None:
            assert frame is not None
            assert answer == f"3{frame[1:]}".encode()
        if made.phase is Phase.JOINED and before is not Phase.JOINED:
            assert frame is not None
            assert frame.startswith(f"40{NAMESPACE}")
