"""A conversation: lines go back and forth with a command, on every transport, while other commands run."""

import pytest

from devices import Session
from devices.errors import ConnectionLost

ECHO = ["sh", "-c", 'while read -r line; do echo "heard $line"; done; echo over >"$1"', "sh"]


def test_lines_are_answered_while_other_commands_run(session: Session) -> None:
    conversation = session.converse([*ECHO, f"{session.root}/end"])
    for word in ("one", "two words", "häß"):
        conversation.send(word)
        assert session.run(["true"]).returncode == 0
        assert conversation.receive(20.0) == f"heard {word}"
    conversation.close()


def test_the_partner_sees_the_end_and_can_still_put_things_back(session: Session) -> None:
    end = f"{session.root}/end"
    session.converse([*ECHO, end]).close()
    wait = 'for i in $(seq 100); do [ -s "$1" ] && exit 0; sleep 0.1; done; exit 1'
    assert session.run(["sh", "-c", wait, "sh", end]).returncode == 0


def test_silence_is_a_timeout_and_an_end_is_a_lost_connection(session: Session) -> None:
    silent = session.converse(["sleep", "60"])
    with pytest.raises(TimeoutError):
        silent.receive(0.2)
    ended = session.converse(["echo", "bye"])
    assert ended.receive(20.0) == "bye"
    with pytest.raises(ConnectionLost):
        ended.receive(20.0)
    ended.close()
    session.run(["pkill", "-f", "^sleep 60$"])
    silent.close()


def test_a_line_without_end_is_given_up(session: Session) -> None:
    endless = session.converse(["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; sleep 5"])
    with pytest.raises(ConnectionLost, match="without end"):
        endless.receive(20.0)
    endless.close()


def test_two_lines_are_not_sent_as_one(session: Session) -> None:
    conversation = session.converse([*ECHO, "/dev/null"])
    with pytest.raises(ValueError, match="one line"):
        conversation.send("a\nb")
    conversation.close()
