"""Lines in the log about endpoints that change: each is written, until there are too many of one channel."""

import msgspec

from gateway.discover.look import DOWN
from gateway.discover.sparing import MINUTE, MOST, Sparing
from tests.test_discover_look import look


def test_a_channel_that_changes_all_the_time_gets_so_many_lines_a_minute_and_others_theirs(caplog):
    caplog.set_level("INFO", "gateway.endpoints")
    sparing, one, other = Sparing(), look(), look()
    one.state, one.why = DOWN, "connection refused"
    other.channel = msgspec.structs.replace(other.channel, name="big")
    other.why = ""
    for number in range(500):
        sparing.say(one, 100.0 + number * 0.1)  # 50 s
    sparing.say(other, 150.0)
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert len(said) == MOST + 2
    assert said[0] == ("WARNING", "channel gpu: http://127.0.0.1:1 is down: connection refused")
    rest = f"channel gpu: {MOST} changes of state within a minute; those of the next {MINUTE - MOST * 0.1:.0f} s are not told here"
    assert said[MOST] == ("WARNING", rest)
    assert said[-1] == ("INFO", "channel big: http://127.0.0.1:1 is up again")
    caplog.clear()
    sparing.say(one, 100.0 + MINUTE)
    assert [record.getMessage() for record in caplog.records] == [said[0][1]]
