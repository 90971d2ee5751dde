"""The Unix door with real sockets: whatever a client sends, or does not read, is its own trouble and nobody else's."""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tq import wire
from tq.api.unix import FRAMES_A_TURN, OUT_MOST, Connection, UnixDoor
from tq.errors import ConfigError
from tq.loop import Loop


class House:
    """A door whose requests are answered after the turn, as the daemon does; ``serve`` and ``turn`` are the test's to drive."""

    def __init__(self, path: Path, max_frame: int = wire.MAX_FRAME, max_connections: int = 100) -> None:
        self.path = path
        self.loop = Loop()
        self.served: list[tuple[int, int, str, dict[str, Any]]] = []
        self.gone: list[int] = []
        self.drained: list[int] = []
        self.later: set[int] = set()
        self.full: set[int] = set()
        self.answers: list[tuple[int, bytes]] = []
        self.clients: list[socket.socket] = []
        more = self.drained.append, self.full.__contains__
        self.door = UnixDoor(self.loop, path, self._serve, self.gone.append, max_frame, max_connections, *more)

    def _serve(self, connection: Connection, number: int, verb: str, args: dict[str, Any]) -> None:
        self.served.append((connection.id, number, verb, args))
        if verb == "later":
            self.later.add(connection.id)
        elif verb == "big":
            self.answers.append((connection.id, wire.frame([number, 0, {"data": b"x" * args["size"]}])))
        else:
            self.answers.append((connection.id, wire.frame([number, 0, {"verb": verb}])))

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.poll(0.0)
            self.door.read_on()
            answers, self.answers = self.answers, []
            for conn, data in answers:
                self.door.send(conn, data)
            self.door.let_go(lambda conn: conn in self.later)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(5)
        client.connect(str(self.path))
        self.clients.append(client)
        self.turn()
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.turn(2)
        self.door.shut()
        self.loop.close()


@pytest.fixture
def house(data_dir: Path) -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(**options: int) -> House:
        made.append(House(data_dir / "tq.sock", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def request(number: int, verb: str = "get", **args: Any) -> bytes:
    return wire.frame([number, verb, args])


def heard(client: socket.socket) -> tuple[list[Any], bool]:
    """Messages that have come, and whether the connection has ended."""
    frames, ended = wire.Frames(1 << 30), False
    client.setblocking(False)
    try:
        while True:
            data = client.recv(1 << 20)
            if not data:
                ended = True
                break
            frames.feed(data)
    except BlockingIOError:
        pass
    except ConnectionResetError:
        ended = True
    client.setblocking(True)
    return [wire.message(body) for body in frames.take()], ended


# -- requests ------------------------------------------------------------------------------------------------------


def test_requests_are_served_in_order_however_their_bytes_arrive(house: Callable[..., House]) -> None:
    home = house()
    client = home.connect()
    data = b"".join(request(number, "get", at=number) for number in range(1, 6))
    for byte in data:
        client.send(bytes([byte]))
        home.turn()
    assert [(number, args) for _, number, _, args in home.served] == [(n, {"at": n}) for n in range(1, 6)]
    assert [number for number, _, _ in heard(client)[0]] == [1, 2, 3, 4, 5]


def test_a_client_that_sends_a_flood_is_read_no_faster_than_it_is_served(house: Callable[..., House]) -> None:
    home = house()
    client, other = home.connect(), home.connect()
    flood = b"".join(request(number) for number in range(20_000))
    client.setblocking(False)
    sent = client.send(flood)
    other.send(request(1))
    most = 0
    for _ in range(30):
        home.turn()
        connection = next(one for one in home.door._connections.values() if one.sock.getpeername() == client.getsockname() and one.id == 1)
        most = max(most, connection.frames.waiting)
        try:
            sent += client.send(flood[sent:])
        except BlockingIOError:
            pass
    assert most <= 600_000
    assert heard(other)[0] == [[1, 0, {"verb": "get"}]]
    assert len(home.served) <= 31 * FRAMES_A_TURN + 1
    numbers = [number for conn, number, _, _ in home.served if conn == 1]
    assert numbers == list(range(len(numbers)))


def test_a_client_with_enough_requests_waiting_is_not_read_until_they_are_served(house: Callable[..., House]) -> None:
    home = house()
    client, other = home.connect(), home.connect()
    client.sendall(b"".join(request(number) for number in range(2 * FRAMES_A_TURN)))
    home.loop.poll(0.0)  # half of it is cut
    home.full.add(1)
    client.sendall(request(2 * FRAMES_A_TURN))
    other.send(request(7))
    home.turn(5)
    waiting = home.door._connections[1].frames.waiting
    assert len([conn for conn, *_ in home.served if conn == 1]) == FRAMES_A_TURN
    assert waiting == len(b"".join(request(number) for number in range(FRAMES_A_TURN, 2 * FRAMES_A_TURN)))
    assert heard(other)[0] == [[7, 0, {"verb": "get"}]]
    home.full.clear()
    home.turn(3)
    assert [number for conn, number, _, _ in home.served if conn == 1] == list(range(2 * FRAMES_A_TURN + 1))


def test_what_a_full_client_has_only_begun_to_send_is_left_in_the_kernel(house: Callable[..., House]) -> None:
    home = house()
    client = home.connect()
    home.full.add(1)
    client.send(request(1))
    home.turn(3)
    assert home.served == []
    assert home.door._connections[1].frames.waiting == 0
    home.full.clear()
    home.turn()
    assert heard(client)[0] == [[1, 0, {"verb": "get"}]]


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00\x00\x00\x04\xc1\xc1\xc1\xc1", b"\x00\x00\x00\x00", wire.frame(None), wire.frame("hello"), wire.frame([1, "get"]),
        wire.frame([1, "get", {}, 4]), wire.frame([1, "get", [1]]), wire.frame([1, 5, {}]), wire.frame(["1", "get", {}]),
        wire.frame([-1, "get", {}]), wire.frame([True, "get", {}]), wire.frame([1.0, "get", {}]), wire.frame([1 << 63, "get", {}]),
        (10).to_bytes(4, "big") + b"\x91" * 10, (9).to_bytes(4, "big") + b"\x93\x01\xa3get\x80\x80\x80\x80",
        (5000).to_bytes(4, "big") + b"\x91" * 4999 + b"\x90", (9).to_bytes(4, "big") + b"\xdd\xff\xff\xff\xff\x01\x01\x01\x01",
        (5).to_bytes(4, "big") + b"\xc6\xff\xff\xff\xff", (11).to_bytes(4, "big") + b"\x93\x01\xa3get\x81\x05\x05\xc0\xc0\xc0",
        (9).to_bytes(4, "big") + b"\x93\x01\xa3ge\xff\x80\x80\x80",
    ],
)  # fmt: skip
def test_a_frame_that_is_no_request_gets_one_error_and_ends_its_connection_only(house: Callable[..., House], frame: bytes) -> None:
    home = house()
    client, other = home.connect(), home.connect()
    client.send(frame + request(2))
    home.turn(3)
    messages, ended = heard(client)
    assert ended
    assert [message[:2] for message in messages] == [[0, 1]]
    assert messages[0][2][0] == "protocol"
    assert "expected" in messages[0][2][1]
    assert home.served == []
    assert home.gone == [1]
    other.send(request(3))
    home.turn(2)
    assert heard(other) == ([[3, 0, {"verb": "get"}]], False)


def test_a_frame_over_the_limit_is_refused_before_its_bytes_have_come(house: Callable[..., House]) -> None:
    home = house(max_frame=1000)
    fits, large = home.connect(), home.connect()
    body = wire.frame([1, "get", {"x": b"y" * 980}])
    assert len(body) - 4 == 1000 - (1000 - len(body) + 4)
    fits.send(body[: len(body)])
    large.send((1001).to_bytes(4, "big"))
    home.turn(2)
    assert heard(fits)[0] == [[1, 0, {"verb": "get"}]]
    messages, ended = heard(large)
    assert ended
    assert messages[0][2][:2] == ["protocol", "expected a frame of at most 1000 bytes, got one of 1001. Send less at once."]


def test_half_a_frame_waits_without_harm_and_its_client_may_vanish(house: Callable[..., House]) -> None:
    home = house()
    client, other = home.connect(), home.connect()
    client.send(request(1)[:-3])
    other.send(request(2))
    home.turn(2)
    assert heard(other)[0] == [[2, 0, {"verb": "get"}]]
    client.close()
    home.turn(2)
    assert home.gone == [1]
    assert [number for _, number, _, _ in home.served] == [2]


# -- answers -------------------------------------------------------------------------------------------------------


def test_a_client_that_never_reads_is_closed_at_the_bound_and_the_others_are_served(house: Callable[..., House]) -> None:
    home = house()
    rude, other = home.connect(), home.connect()
    most = 0
    for number in range(40):
        if home.gone:
            break
        rude.send(request(number, "big", size=512 << 10))
        other.send(request(number))
        home.turn(2)
        most = max(most, home.door.unsent(1))
        assert [message[0] for message in heard(other)[0]] == [number]
    assert home.gone == [1]
    assert most <= OUT_MOST


def test_what_all_clients_together_begin_to_send_is_bounded_and_who_gets_on_is_spared(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tq.api.unix.HELD_MOST", 1 << 20)
    home = house(max_frame=256 << 10)
    small, good = home.connect(), home.connect()
    small.send(b"\0\0\0")  # holds nearly nothing, though longest
    whole = request(1, "get", data=b"x" * 150_000)
    slow = []
    for number in range(1, 21):
        slow.append(home.connect())
        slow[-1].sendall(whole[:100_000])
        good.sendall(whole[: len(whole) // 2])
        home.turn(2)
        good.sendall(whole[len(whole) // 2 :])
        home.turn(2)
        assert sum(one.frames.waiting for one in home.door._connections.values()) == home.door._held <= 1 << 20
        assert len(heard(good)[0]) == 1, number
    assert home.gone == list(range(3, 3 + len(home.gone)))  # those that got on least
    assert 10 <= len(home.gone) <= 12
    messages, ended = heard(slow[0])
    assert ended
    assert messages[0][2][0] == "refused"
    assert "frames begun" in messages[0][2][1]
    assert not heard(small)[1]
    for one in [small, good, *slow]:
        one.close()
    home.turn(2)
    assert (home.door._held, home.door._holding) == (0, {})


def test_what_all_clients_together_do_not_read_is_bounded_and_who_reads_is_spared(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tq.api.unix.HELD_MOST", 4 << 20)
    home = house(max_frame=256 << 10)
    good = home.connect()
    for _ in range(12):
        home.connect().send(request(1, "big", size=1 << 20))
        good.send(request(2))
        home.turn(2)
        assert sum(len(one.out) for one in home.door._connections.values()) == home.door._held <= 4 << 20
        assert [message[0] for message in heard(good)[0]] == [2]
    assert home.gone == list(range(2, 2 + len(home.gone)))
    assert len(home.gone) >= 6


def test_a_slow_reader_gets_every_byte_in_order(house: Callable[..., House]) -> None:
    home = house()
    client = home.connect()
    client.send(request(1, "big", size=3 << 20) + request(2) + request(3, "big", size=1 << 20))
    home.turn()
    assert home.door.unsent(1) > 1 << 20
    client.setblocking(False)
    data = b""
    for _ in range(2000):
        home.turn()
        try:
            data += client.recv(64 << 10)
        except BlockingIOError:
            break
    frames = wire.Frames(1 << 30)
    frames.feed(data)
    found = [wire.message(body) for body in frames.take()]
    assert [message[0] for message in found] == [1, 2, 3]
    assert len(found[0][2]["data"]) == 3 << 20
    assert home.drained == [1]
    assert home.door.unsent(1) == 0


def test_a_client_that_has_said_its_last_word_gets_its_answers_and_then_the_end(house: Callable[..., House]) -> None:
    home = house()
    client = home.connect()
    count = 2 * FRAMES_A_TURN + 10
    client.sendall(b"".join(request(number) for number in range(count)) + request(count, "later"))
    client.shutdown(socket.SHUT_WR)
    numbers: list[int] = []
    for _ in range(8):
        home.turn()
        messages, ended = heard(client)
        numbers += [message[0] for message in messages]
        assert not ended
    assert numbers == list(range(count))
    assert home.gone == []
    home.later.clear()
    home.answers.append((1, wire.frame([count, 0, {"late": True}])))
    home.turn()
    assert heard(client) == ([[count, 0, {"late": True}]], True)
    assert home.gone == [1]


def test_an_idle_half_closed_client_wakes_nobody_and_is_gone_when_it_closes(house: Callable[..., House]) -> None:
    home = house()
    client = home.connect()
    client.sendall(request(1, "later"))
    client.shutdown(socket.SHUT_WR)
    home.turn(4)
    assert select.select([home.loop._epoll.fileno()], [], [], 0.05)[0] == []
    client.close()
    home.turn(2)
    assert home.gone == [1]


def test_answers_for_those_who_left_go_nowhere(house: Callable[..., House]) -> None:
    home = house()
    client = home.connect()
    client.send(request(1, "later"))
    home.turn()
    client.close()
    home.turn()
    home.door.send(1, request(1))
    home.door.send(77, request(1))
    assert home.gone == [1]
    assert home.door.connections == 0


# -- who gets in ---------------------------------------------------------------------------------------------------


def test_beyond_the_limit_a_client_is_told_so_and_gets_in_when_one_has_left(house: Callable[..., House]) -> None:
    home = house(max_connections=2)
    first, _second = home.connect(), home.connect()
    messages, ended = heard(home.connect())
    assert ended
    assert messages[0][2][0] == "refused"
    assert "at most 2 connections" in messages[0][2][1]
    first.close()
    home.turn()
    third = home.connect()
    third.send(request(9))
    home.turn(2)
    assert heard(third)[0] == [[9, 0, {"verb": "get"}]]


def test_another_user_is_refused(house: Callable[..., House], monkeypatch: pytest.MonkeyPatch) -> None:
    home = house()
    monkeypatch.setattr("tq.api.unix._CREDENTIALS", type("C", (), {"size": 12, "unpack": staticmethod(lambda _: (1, 54321, 1))}))
    messages, ended = heard(home.connect())
    assert ended
    assert messages[0][2][0] == "not_allowed"
    assert home.door.connections == 0


def test_the_socket_is_private_and_replaces_a_dead_ones_and_goes_with_the_door(house: Callable[..., House], data_dir: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(data_dir / "tq.sock"))
    dead.close()
    (data_dir / "tq.sock-").touch()  # a start that was killed between bind and rename
    home = house()
    assert stat.S_IMODE((data_dir / "tq.sock").stat().st_mode) == 0o600
    assert os.listdir(data_dir) == ["tq.sock"]
    home.connect().send(request(1))
    home.turn(2)
    assert len(home.served) == 1
    home.door.shut()
    assert os.listdir(data_dir) == []
    home.door = UnixDoor(home.loop, home.path, home._serve, home.gone.append, 1000, 1, home.drained.append, lambda _: False)


def test_a_path_of_a_hundred_and_seven_bytes_works_and_one_more_is_refused(data_dir: Path) -> None:
    room = wire.MAX_SOCKET_PATH - len(os.fsencode(data_dir)) - 2
    longest = data_dir / ("d" * (room - 6)) / "s.sock"
    longest.parent.mkdir()
    assert len(os.fsencode(longest)) == wire.MAX_SOCKET_PATH
    for path in (longest.with_name("s.soc"), longest):
        home = House(path)
        home.connect().send(request(1))
        home.turn(2)
        assert len(home.served) == 1
        home.close()
    with pytest.raises(ConfigError, match=r"at most 107 bytes, got 108.*--data-dir"):
        House(longest.with_name("ss.sock"))


OUT_OF_DESCRIPTORS = """
import os, resource, socket, sys
from pathlib import Path
from tests.tq.api.test_unix import House, heard, request
home = House(Path(sys.argv[1]) / "tq.sock")
held = [home.connect()]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
while True:
    try:
        held.append(open(os.devnull))
    except OSError:
        break
held.pop().close()
late = socket.socket(socket.AF_UNIX)  # takes the last descriptor; its other end, in the daemon, needs one more
late.connect(sys.argv[1] + "/tq.sock")
home.turn(2)
messages, ended = heard(late)
assert ended and messages[0][2][0] == "refused" and "descriptor" in messages[0][2][1], messages
held[0].send(request(1))
home.turn(2)
assert heard(held[0])[0] == [[1, 0, {"verb": "get"}]]
held.pop().close()  # one is free again
late.close()
again = home.connect()
again.send(request(2))
home.turn(2)
assert heard(again)[0] == [[2, 0, {"verb": "get"}]]
assert not home.door.deaf
os.close(home.door._spare)  # now not even the spare one
home.door._spare = None
filler = []
while True:
    try:
        filler.append(os.dup(0))
    except OSError:
        break
os.close(filler.pop())
last = socket.socket(socket.AF_UNIX)
last.connect(sys.argv[1] + "/tq.sock")
home.turn(2)
assert home.door.deaf
home.turn(3)  # nobody spins: the listener is not looked at
for one in held[-4:]:
    one.close()
home.door.hear()
last.send(request(3))
home.turn(3)
assert heard(last)[0] == [[3, 0, {"verb": "get"}]]
print("fine")
"""


def test_without_a_descriptor_left_a_client_is_told_so_and_the_others_are_served(data_dir: Path, request: pytest.FixtureRequest) -> None:
    root = request.config.rootpath
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS, str(data_dir)], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_a_signal_of_death_is_not_needed_a_reset_peer_is_just_gone(house: Callable[..., House]) -> None:
    home = house()
    client = home.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.send(request(1, "big", size=4 << 20))
    home.turn()
    client.close()  # with answers unread
    home.turn(3)
    assert home.gone == [1]
