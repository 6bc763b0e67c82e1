"""The limits as people look at them, also when there are very many counters."""

from gateway.config.resolved_limits import Limit, Limits
from gateway.referee.moment import Moment
from gateway.referee.quotas import Quotas
from gateway.referee.rules import Hours, Rule, amounts
from gateway.referee.view import COUNTERS_MOST, SLICE, counters


async def test_of_very_many_counters_the_fullest_are_shown():
    limit, now = Limit("requests", 100, "minute", each="key"), Moment(0.0, 1.8e9)
    rule = Rule("", limit, Hours(Limits()))
    quotas = Quotas(lambda name: {})
    for number in range(SLICE * 2 + 7):
        plan = quotas.plan(f"k{number}", [(rule.id, rule.counter(f"k{number}", "", ""))], {rule.id: rule}.get, now)
        for lease in range(5 if number == SLICE + 1 else 1):
            quotas.ask(0, number * 10 + lease, plan, amounts(1, 1, 0), now)
    found = await counters(quotas, [(("", limit), rule)], now, "", "")
    assert len(found) == COUNTERS_MOST
    assert (found[0]["used"], found[0]["value"]) == (5, f"k{SLICE + 1}") and found[-1]["used"] == 1
