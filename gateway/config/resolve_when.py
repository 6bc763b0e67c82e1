"""Conditions and schedules as checked, in the compact form that workers take. Decides nothing."""

from collections.abc import Mapping

from gateway.config import resolved_when as form
from gateway.config.hours import dates_of, hours_of
from gateway.config.when import Content, Figure, Fraction, Has, HeaderTest, Load, Schedule, Share, TokenRange, When, path_of


def resolve_when(when: When) -> form.When:
    """The conditions of one rule."""
    return form.When(
        prompt_tokens=_range(when.prompt_tokens),
        max_tokens=_range(when.max_tokens),
        headers={name.lower(): tuple(map(_header, tests)) for name, tests in (when.headers or {}).items()},
        content=tuple(map(_content, when.content or ())),
        api=tuple(when.api or ()),
        has=_has(when.has),
        tenant=_texts(when.tenant),
        project=_texts(when.project),
        key=_texts(when.key),
        during=_texts(when.during),
        outside=_texts(when.outside),
        share=_share(when.share),
        load=tuple(map(_load, when.load or ())),
    )


def resolve_schedules(schedules: Mapping[str, Schedule]) -> dict[str, form.Schedule]:
    """All schedules by name."""
    return {
        name: form.Schedule(
            zone=str(schedule.zone),
            hours=tuple(map(hours_of, schedule.when)),
            holidays=tuple(map(dates_of, schedule.holidays)),
        )
        for name, schedule in schedules.items()
    }


def _texts(values: list[str] | None) -> tuple[str, ...]:
    return tuple(map(str, values or ()))


def _range(found: TokenRange | Figure | Fraction | Content | None) -> form.Range | None:
    if found is None or (found.over is None and found.up_to is None):
        return None
    return form.Range(over=found.over, up_to=found.up_to)


def _text(value: str | None) -> str | None:
    """Plain text, also where a reference stood: a worker's form has no subclasses."""
    return None if value is None else str(value)


def _header(test: HeaderTest) -> form.HeaderTest:
    return form.HeaderTest(equals=_text(test.equals), prefix=_text(test.prefix), match=_text(test.match), present=test.present)


def _content(content: Content) -> form.Content:
    return form.Content(
        words=_texts(content.words),
        ignore_case=content.ignore_case,
        match=_text(content.match),
        place=getattr(content, "in"),
        path=path_of(content.path) if content.path else (),
        equals=tuple(str(value) if isinstance(value, str) else value for value in content.equals or ()),
        range=_range(content),
        present=content.present,
    )


def _has(has: Has | None) -> form.Has | None:
    if has is None:
        return None
    named = {"tools": has.tools, "images": has.images, "response_format": has.response_format, "stream": has.stream}
    return form.Has(any=tuple(has.any or ()), each={name: wanted for name, wanted in named.items() if wanted is not None})


def _share(share: Share | None) -> form.Share | None:
    if share is None:
        return None
    header = share.by and share.by.header
    by = None if share.by is None else "header" if header else share.by.of
    return form.Share(percent=float(share.percent), by=by, header=header.lower() if header else None)


def _load(load: Load) -> form.Load:
    named = {"running": load.running, "waiting": load.waiting, "queue": load.queue, "kv_use": load.kv_use}
    figures = {name: figure for name, found in named.items() if (figure := _range(found))}
    return form.Load(channel=str(load.channel), figures=figures)
