"""How well anomalies are found: `python bench/anomalies.py`. A synthetic year of hourly usage per tenant with injected spikes and
outages; prints precision, recall and delay for each sensitivity.

A year has daily and weekly seasons of a tenant's own shape, growth, noise of lognormal size, missing hours, ten holidays that look
like Sundays, and a level that shifts for good in some tenants. A spike adds two to nine times what the hour has (at least half
the tenant's mean hour) for 2 to 12 hours; an outage leaves at most a twentieth of a working day's hour for 3 to 8 hours. Both begin
within an hour, not at its start. An alarm is a run of anomalous hours. It is right when it touches an injected anomaly; an anomaly
is found when an alarm has begun two hours after its onset. The day after a shift of the level counts for nothing.
"""

import argparse
import math
import random
from dataclasses import dataclass, field
from statistics import median

from gateway.alert.anomaly import DAY, LEAST_WEEKS, SENSITIVITIES, WEEK, Baseline

YEAR = 365 * DAY
SEEDS = (1, 2, 3, 4, 5)
TENANTS = 8


@dataclass
class Injected:
    """onset: hours since the beginning, with a fraction. last: the last hour that it touches."""

    kind: str
    onset: float
    last: int


@dataclass
class Synthetic:
    """One tenant's year."""

    hours: list[float | None]
    injected: list[Injected] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)


def year(luck: random.Random, holidays: set[int], hours: int = YEAR, anomalies: int = 12) -> Synthetic:
    """A tenant. holidays: days since the beginning, a Monday."""
    mean, growth, noise = 10 ** luck.uniform(4, 7), luck.uniform(-0.3, 1.2), luck.uniform(0.08, 0.3)
    peak, width, night, weekend = luck.uniform(9, 16), luck.uniform(2.5, 5), luck.uniform(0.02, 0.5), luck.uniform(0.08, 0.9)
    made = Synthetic([])
    if luck.random() < 0.4:
        made.shifts.append(luck.randrange(hours // 3, hours - 2 * WEEK))
    shift = luck.choice((0.45, 1.8, 2.5))
    plain = []
    for hour in range(hours):
        day = hour // DAY
        shape = night + math.exp(-(((hour % DAY - peak) / width) ** 2))
        free = day % 7 >= 5 or day in holidays
        level = mean * (1 + growth * hour / YEAR) * (shift if made.shifts and hour >= made.shifts[0] else 1)
        plain.append(level * shape * (weekend if free else 1))
    made.hours = [value * math.exp(luck.gauss(0, noise) - noise**2 / 2) for value in plain]
    _inject(luck, made, plain, holidays, anomalies)
    for hour in range(hours):
        if luck.random() < 0.003 and not any(one.onset - 2 <= hour <= one.last for one in made.injected):
            made.hours[hour] = None
    return made


def _inject(luck: random.Random, made: Synthetic, plain: list[float], holidays: set[int], anomalies: int) -> None:
    mean = sum(plain) / len(plain)
    first = (LEAST_WEEKS + 1) * WEEK
    while len(made.injected) < anomalies:
        onset = luck.uniform(first, len(plain) - 2 * DAY)
        start = int(onset)
        outage = luck.random() < 0.2
        busy = (start // DAY) % 7 < 5 and start // DAY not in holidays and plain[start] > mean and plain[start + 2] > mean
        near = [*(one.onset for one in made.injected), *made.shifts]
        if (outage and not busy) or any(abs(onset - one) < 3 * DAY for one in near):
            continue
        lasting = luck.randint(3, 8) if outage else luck.randint(2, 12)
        size = luck.uniform(0, 0.05) if outage else luck.uniform(2, 9)
        for hour in range(start, start + lasting + 1):
            share = 1 - (onset - start) if hour == start else onset - start if hour == start + lasting else 1.0
            value = made.hours[hour] or 0.0
            made.hours[hour] = value * (1 - share * (1 - size)) if outage else value + share * size * max(plain[hour], mean / 2)
        made.injected.append(Injected("outage" if outage else "spike", onset, start + lasting))


@dataclass
class Score:
    """right, wrong: alarms. found, missed: anomalies. delays: hours from the onset to the end of the hour that showed it."""

    right: int = 0
    wrong: int = 0
    found: int = 0
    missed: int = 0
    delays: list[float] = field(default_factory=list)

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.found + self.missed)


def measure(tenants: list[Synthetic], sensitivity: str, least: float = 1000.0) -> Score:
    """What came of watching these tenants hour by hour."""
    score = Score()
    for tenant in tenants:
        baseline = Baseline(tenant.hours, least)
        odd = [hour for hour in range(len(tenant.hours)) if baseline.judge(hour, sensitivity) is not None]
        alarms: list[list[int]] = []
        for hour in odd:
            if alarms and hour - alarms[-1][-1] <= 3:
                alarms[-1].append(hour)
            else:
                alarms.append([hour])
        for alarm in alarms:
            if any(one.onset - 1 <= alarm[-1] and alarm[0] <= one.last + 1 for one in tenant.injected):
                score.right += 1
            elif not any(shift <= alarm[0] < shift + DAY for shift in tenant.shifts):
                score.wrong += 1
        for one in tenant.injected:
            begun = [alarm[0] for alarm in alarms if alarm[-1] >= int(one.onset) and alarm[0] <= one.last]
            if begun and begun[0] + 1 - one.onset <= 2:
                score.found += 1
                score.delays.append(max(0.0, begun[0] + 1 - one.onset))
            else:
                score.missed += 1
    return score


def fleet(seed: int, tenants: int = TENANTS, hours: int = YEAR, anomalies: int = 12) -> list[Synthetic]:
    luck = random.Random(seed)
    holidays = set(luck.sample([day for day in range(21, 365) if day % 7 < 5], 10))
    return [year(luck, holidays, hours, anomalies) for _ in range(tenants)]


def main() -> None:
    """One line for each seed and sensitivity."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--tenants", type=int, default=TENANTS)
    options = parser.parse_args()
    print("| seed | sensitivity | anomalies | false alarms a tenant and year | precision | recall within 2 h | median delay |")
    print("|---|---|---|---|---|---|---|")
    for seed in options.seeds:
        tenants = fleet(seed, options.tenants)
        for sensitivity in SENSITIVITIES:
            score = measure(tenants, sensitivity)
            delay = median(score.delays) * 60 if score.delays else math.nan
            row = [seed, sensitivity, score.found + score.missed, f"{score.wrong / len(tenants):.1f}"]
            row += [f"{score.precision:.3f}", f"{score.recall:.3f}", f"{delay:.0f} min"]
            print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
