"""One simulated engine: listeners, received requests, faults. The in-process form of `gatewayctl simulate`."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from aiohttp import web

from gateway.simulate.delivery import Delivery, hang_up, scripted_status, stall
from gateway.simulate.dialect import Answer, Dialect, Received, Refused, Stream, Whole, wants_stream
from gateway.simulate.engine import Engine, Work
from gateway.simulate.faults import Fault, Play, Script
from gateway.simulate.listener import Listener, ports
from gateway.simulate.mindie import METRICS, Mindie
from gateway.simulate.mindie_manage import MANAGEMENT
from gateway.simulate.settings import Health, Kind, Settings
from gateway.simulate.sglang import Sglang
from gateway.simulate.vllm import Vllm

DIALECTS: dict[Kind, type[Vllm] | type[Sglang] | type[Mindie]] = {"vllm": Vllm, "sglang": Sglang, "mindie": Mindie}
STOP_DELAY = 0.05
"""Seconds between the answer of /stopService and the end."""


async def start(
    kind: Kind, *, port: int = 0, model: str | Sequence[str] = "qwen3", script: Script | None = None, **options: Any
) -> "Simulator":
    """Start a simulator in this event loop; `options` are fields of Settings. Errors: OSError, TypeError."""
    models = (model,) if isinstance(model, str) else tuple(model)
    simulator = Simulator(Settings(kind=kind, port=port, models=models, **options), script)
    await simulator.open()
    return simulator


class Simulator:
    """A running engine. `requests`, `touched` and `engine` may be read at any time, `script` and `health` set."""

    def __init__(self, settings: Settings, script: Script | None = None) -> None:
        self.settings = settings
        self.engine = Engine(settings)
        self.dialect: Dialect = DIALECTS[settings.kind](settings, self.engine)
        self.requests: list[Received] = []
        self.touched: list[str] = []
        self.stopped_by_call = False
        self._play = Play(script or Script(), settings.seed)
        self._slots = asyncio.Semaphore(settings.max_running) if settings.max_running else None
        self._listeners: list[Listener] = []
        self._in_flight: dict[int, Received] = {}
        self._inferences = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._follower: asyncio.Task[None] | None = None
        self._switching = asyncio.Lock()
        self._ended = False

    async def __aenter__(self) -> "Simulator":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        return self._port("business")

    @property
    def url(self) -> str:
        return self._url("business")

    @property
    def management_url(self) -> str:
        return self._url(MANAGEMENT)

    @property
    def metrics_url(self) -> str:
        return self._url(METRICS)

    @property
    def listening(self) -> bool:
        return any(listener.listening for listener in self._listeners)

    @property
    def health(self) -> Health:
        return self.engine.health

    @health.setter
    def health(self, health: Health) -> None:
        self.engine.health = health

    @property
    def script(self) -> Script:
        return self._play.script

    @script.setter
    def script(self, script: Script | None) -> None:
        """From the next request on; it is number 1 of the new script."""
        self._play = Play(script or Script(), self.settings.seed)
        self._follow()

    @property
    def last(self) -> Received:
        """The newest inference request. Errors: LookupError when there is none."""
        return next(request for request in reversed(self.requests) if request.number)

    async def open(self) -> None:
        for port, planes in ports(self.settings, self.dialect.planes):
            listener = Listener(self.settings, port, planes, self._serve)
            self._listeners.append(listener)
            try:
                await listener.open()
            except OSError:
                await self.stop()
                raise
        self._follow()

    async def stop(self) -> None:
        """Close everything; no task and no socket stays. May be called twice."""
        self._ended = True
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._forget_all()
        for listener in self._listeners:
            await listener.close()

    async def down(self) -> None:
        """The engine is gone: nobody listens, all connections are dropped."""
        async with self._switching:
            self._forget_all()
            for listener in self._listeners:
                await listener.down()

    async def up(self) -> None:
        async with self._switching:
            for listener in self._listeners if not self._ended else ():
                await listener.up()

    def _port(self, plane: str) -> int:
        """Engines with one plane answer everything on it."""
        return next((found.port for found in self._listeners if plane in found.planes), self._listeners[0].port)

    def _url(self, plane: str) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{self.settings.scheme}://{host}:{self._port(plane)}"

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _follow(self) -> None:
        """Obey the script's clock: end the old one's flapping, begin the new one's."""
        flapping, self._follower = self._follower, None
        if flapping is not None:
            flapping.cancel()
        if not self._ended and (flapping is not None or self.script.flap is not None):
            self._follower = self._spawn(self._flap(self.script.flap))

    async def _flap(self, rule: Fault | None) -> None:
        await self.up()
        while rule is not None:
            await asyncio.sleep(rule.up)
            await self.down()
            await asyncio.sleep(rule.down)
            await self.up()

    async def _restart(self, seconds: float) -> None:
        await self.down()
        await stall(seconds)
        await self.up()

    async def _stop_soon(self) -> None:
        await asyncio.sleep(STOP_DELAY)
        await self.down()

    def _forget_all(self) -> None:
        """What is in flight ends by our doing, not by its client's."""
        for record in self._in_flight.values():
            record.dropped = True

    async def _serve(self, http: web.Request, planes: frozenset[str]) -> web.StreamResponse:
        record = self._received(http, planes)
        self._in_flight[id(record)] = record
        try:
            record.body = await http.read()
            return await self._answer(http, record, planes)
        except asyncio.CancelledError:
            self._left(record)
            raise
        except ConnectionError:
            # The server would log an exception; a response to a closed connection just ends.
            self._left(record)
            return web.Response()
        finally:
            record.ended_at = time.monotonic()
            del self._in_flight[id(record)]

    def _received(self, http: web.Request, planes: frozenset[str]) -> Received:
        headers = {name.lower(): value for name, value in http.headers.items()}
        plane = next(plane for plane in self.dialect.planes if plane in planes)
        record = Received(method=http.method, path=http.path, query=http.rel_url.raw_query_string, headers=headers, plane=plane)
        if len(self.requests) >= self.settings.keep:
            del self.requests[: self.settings.keep // 2 + 1]
        self.requests.append(record)
        if self.dialect.dangerous(record.path):
            self.touched.append(record.path)
        return record

    def _left(self, record: Received) -> None:
        if not record.dropped:
            record.aborted_at = time.monotonic()

    async def _answer(self, http: web.Request, record: Received, planes: frozenset[str]) -> web.StreamResponse:
        inference = self.dialect.is_inference(record.method, record.path)
        if inference:
            self._inferences += 1
            self.engine.received += 1
            record.number = self._inferences
        fault = self._play.next(record.path, inference=inference)
        delivery = Delivery(http, record, self.engine, self.dialect, fault)
        if fault is not None:
            record.fault = fault.do
            instead = await self._strike(http, record, fault) if fault.before_answer else None
            if instead is not None:
                return await delivery.send(instead)
        answer = self._ask(record, planes)
        if answer.work is None:
            if isinstance(answer, Whole) and answer.stops:
                self.stopped_by_call = True
                self._spawn(self._stop_soon())
            return await delivery.send(answer)
        return await self._generate(http, record, delivery, answer, answer.work)

    def _ask(self, record: Received, planes: frozenset[str]) -> Answer:
        try:
            return self.dialect.answer(record, planes)
        except Refused as no:
            return no.answer

    async def _generate(self, http: web.Request, record: Received, delivery: Delivery, answer: Answer, work: Work) -> web.StreamResponse:
        if self.engine.full:
            return await delivery.send(await self._queue_full(http, record, stream=isinstance(answer, Stream)))
        arrived = time.monotonic()
        async with self._slot():
            delivery.start_clock()
            now = time.monotonic()
            self.engine.begin(work, now, now - arrived)
            how = "failed"
            try:
                response = await delivery.send(answer)
                how = "done" if response.status < 400 else "failed"
                return response
            except (asyncio.CancelledError, ConnectionError):
                how = "failed" if record.dropped else "aborted"
                raise
            finally:
                self.engine.end(work, time.monotonic(), how=how)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """A place among the running requests; `waiting` until it is free."""
        if self._slots is None:
            yield
            return
        self.engine.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.engine.waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _queue_full(self, http: web.Request, record: Received, *, stream: bool) -> Answer:
        self.engine.rejected += 1
        answer = self.dialect.queue_full(stream=stream)
        if answer is None:
            await hang_up(http, record)
        return answer

    async def _strike(self, http: web.Request, record: Received, fault: Fault) -> Answer | None:
        """A fault before the answer. None: it is over, answer now."""
        stream = wants_stream(record)
        if fault.do == "stall":
            await stall(fault.seconds)
            return None
        if fault.do == "queue_full":
            return await self._queue_full(http, record, stream=stream)
        if fault.do == "status":
            return scripted_status(self.dialect, fault)
        if fault.do == "garbage":
            return Whole(fault.text.encode(), content_type=self.dialect.stream_content_type if stream else "application/json")
        if fault.do == "restart":
            record.dropped = True
            self._spawn(self._restart(fault.seconds))
        await hang_up(http, record, reset=fault.do == "reset")
