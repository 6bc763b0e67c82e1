"""The demonstration: a gateway before three engines, used, changed while in use, and hurt. It checks what it shows.

Everything is real but the accelerators: own processes, sockets and files, in a temporary directory. Whatever is not as
promised ends it with exit code 1.
"""

import contextlib
import difflib
import shlex
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from gatewayctl import show
from gatewayctl.client import Client
from gatewayctl.commands.asker import Answer, Asker, NoAnswer, asker
from gatewayctl.commands.stage import Broken, Stage, free_ports, llama_available, until
from gatewayctl.programs import gateway_command
from gatewayctl.session import Session
from gatewayctl.show import Column
from gatewayctl.trouble import Trouble
from gatewayctl.words import millis, plural

CONFIG: Final = """\
version: 1
data_dir: data
workers: 2
include: [keys.yaml]
listeners:
  api: {{bind: "127.0.0.1:{port}"}}
  metrics: {{bind: "127.0.0.1:{metrics_port}", serves: metrics}}
http: {{drain_timeout: 2s}}
journal: {{reserve: 1MiB}}

channels:                       # ways to reach engines
  {real}: {{engine: auto, endpoints: ["{real_url}"], model: {real_model}}}
  vllm: {{engine: vllm, endpoints: ["{vllm_url}"], model: qwen3}}
  mindie: {{engine: mindie, endpoints: ["{mindie_url}"], model: qwen3-32b}}

models:                         # names that callers use
  {real}: {{targets: [{{channel: {real}}}]}}
  vllm: {{targets: [{{channel: vllm}}]}}
  mindie: {{targets: [{{channel: mindie}}]}}
  team:
    targets:
      - {{channel: vllm, weight: 3}}
      - {{channel: mindie, weight: 1}}

tenants:
  demo: {{projects: {{first: {{}}}}}}
"""
KEYS: Final = "keys:\n  - {{id: {id}, hash: \"{hash}\", tenant: demo, project: first, models: ['*']}}\n"
PACE: Final = 60
"""Tokens per second of the simulated engines."""
LONG: Final = 200
ROUND: Final = 8
CLOSED: Final = 10.0
"""Seconds that the journal and the health of endpoints may take to show what happened."""

RECORDS: Final = [
    Column("#", lambda r: r["number"], "right"),
    Column("model", lambda r: r["model"]),
    Column("stream", lambda r: "yes" if r.get("stream") else "-"),
    Column("rev", lambda r: r["rev"], "right"),
    Column("route", lambda r: " → ".join(f"{a['channel']} {a['reason']}" for a in r["attempts"])),
    Column("end", lambda r: r["end"]),
    Column("in", lambda r: (r.get("tokens") or {}).get("in", 0), "right"),
    Column("out", lambda r: (r.get("tokens") or {}).get("out", 0), "right"),
    Column("counted by", lambda r: r.get("source")),
    Column("ttft", lambda r: millis(r["ms"].get("first")), "right"),
    Column("total", lambda r: millis(r["ms"].get("total")), "right"),
]


def run(keep: bool, color: str = "auto") -> None:
    """Show the gateway at work. keep: leave everything running until Ctrl-C. color: as --color.

    Raises Trouble when something is not as promised.
    """
    began = time.monotonic()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with Stage() as stage:
        demo = Demo(stage, color)
        try:
            demo.play()
        except (Broken, NoAnswer, TimeoutError, Trouble) as error:
            if "gateway" in stage.children:
                print(f"\nThe gateway's log ends with:\n{stage.children['gateway'].last_words()}", file=sys.stderr)
            raise Trouble(f"the demonstration failed: {str(error) or 'something took too long'}") from error
        finally:
            demo.close()
        print(f"\n{demo.bold('All as promised')}: {demo.checks} checks, {time.monotonic() - began:.0f} s.")
        if keep:
            demo.leave_running()
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            print("\nEnded; everything is removed.")


class OpenStream:
    """A stream that is read beside everything else."""

    def __init__(self, caller: Asker, body: dict[str, Any]) -> None:
        self.answer: Answer | None = None
        self.failed: NoAnswer | None = None
        self.arrivals: list[float] = []
        self._thread = threading.Thread(target=self._read, args=(caller, {**body, "stream": True}), daemon=True)
        self._thread.start()

    def _read(self, caller: Asker, body: dict[str, Any]) -> None:
        try:
            self.answer = caller.ask(body, lambda answer: self.arrivals.append(time.monotonic()))
        except NoAnswer as error:
            self.failed = error

    def has(self, words: int) -> None:
        """Returns when so many pieces have arrived."""
        until(lambda: len(self.arrivals) >= words or not self._thread.is_alive(), 20)

    def end(self) -> Answer:
        self._thread.join(30)
        if self.answer is None:
            raise self.failed or TimeoutError
        return self.answer


class Demo:
    """The story, step by step."""

    def __init__(self, stage: Stage, color: str = "auto") -> None:
        self.stage = stage
        self.path = stage.folder / "gateway.yaml"
        self.session = Session(config=self.path, color=color)
        self.admin = Client(stage.folder / "data" / "admin.sock", self.path)
        self.caller: Asker | None = None
        self.answers: dict[str, Answer] = {}
        self.checks = 0
        self.steps = 0
        self.text = self.secret = self.base_url = self.real = self.metrics_url = ""
        self.urls: dict[str, str] = {}

    def play(self) -> None:
        self.start_engines()
        self.start_gateway()
        self.ask_each()
        self.ask_the_team()
        self.edit_beside_a_stream()
        self.lose_an_engine()
        self.break_a_stream()
        self.bring_them_back()
        self.show_records()

    def close(self) -> None:
        if self.caller is not None:
            self.caller.close()

    # -- how it is told ----------------------------------------------------------------------------------------------

    def bold(self, text: str) -> str:
        return show.paint(self.session, text, "bold")

    def step(self, title: str) -> None:
        self.steps += 1
        print("\n" + self.bold(f"{self.steps}. {title}"))

    def say(self, text: str) -> None:
        print("\n".join(f"   {line}" for line in text.splitlines()))

    def check(self, kept: bool, promise: str) -> None:
        """promise: what is said when it was not kept."""
        self.checks += 1
        if not kept:
            raise Broken(promise)

    def ask(self, model: str, text: str, *, stream: bool = False, **more: Any) -> Answer:
        assert self.caller is not None
        body = {"model": model, "messages": [{"role": "user", "content": text}], **({"stream": True} if stream else {}), **more}
        answer = self.caller.ask(body)
        self.answers[answer.id] = answer
        return answer

    def tell(self, answer: Answer, how: str) -> None:
        words = answer.text if len(answer.text) <= 76 else answer.text[:75] + "…"
        first = f", first word after {millis(answer.first * 1000)}" if answer.first else ""
        self.say(f'{how} "{words}"')
        self.say(
            f"{'':6} via {answer.channel}, {plural(answer.attempts, 'attempt')}; {answer.tokens[0]} tokens in, "
            f"{answer.tokens[1]} out; {millis(answer.took * 1000)}{first}"
        )

    # -- the story ---------------------------------------------------------------------------------------------------

    def start_engines(self) -> None:
        self.step("Three engines")
        if llama_available():
            self.real, model, what = "llama", "tiny-llama", "a real llama.cpp server, on a tiny model made just now"
            url = self.stage.llama()
        else:
            self.say("No llama.cpp server can be started here (the Python packages xllamacpp, gguf, numpy): a simulated SGLang instead.")
            self.real, model, what = "sglang", "qwen3", "a simulated SGLang"
            url = self.stage.engine("sglang")
        options = ("--tps", str(PACE), "--ttft", "50ms")
        vllm = self.stage.engine("vllm", options=(*options, "--model", "qwen3"))
        mindie = self.stage.engine("mindie", options=(*options, "--model", "qwen3-32b"))
        self.urls = {self.real: url, "vllm": vllm, "mindie": mindie}
        for name, about in {self.real: what, "vllm": "a simulated vLLM", "mindie": "a simulated MindIE"}.items():
            self.say(f"{name:8}{self.urls[name]:25}{about}")
        port, metrics_port = free_ports(2)
        self.base_url, self.metrics_url = f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{metrics_port}/metrics"
        self.text = CONFIG.format(
            port=port, metrics_port=metrics_port, real=self.real, real_url=url, real_model=model, vllm_url=vllm, mindie_url=mindie
        )

    def start_gateway(self) -> None:
        from gateway.config.keys import new_secret

        self.step("The gateway before them")
        id, self.secret, hashed = new_secret("demo1")
        self.path.write_text(self.text)
        (self.stage.folder / "keys.yaml").write_text(KEYS.format(id=id, hash=hashed))
        self.say(f"$ cat {self.path}")
        print("\n".join(f"     {line}".rstrip() for line in self.text.splitlines()))
        self.say(f"$ gatewayctl serve --config {self.path}")
        began = time.monotonic()
        self.stage.start("gateway", gateway_command("serve", "--config", str(self.path)), "ready:")
        status = self.admin.get("/v1/status")
        workers = [one for one in status["processes"] if one["name"].startswith("worker-")]
        self.say(f"ready after {time.monotonic() - began:.1f} s: {plural(len(workers), 'worker')}, {self.base_url}")
        self.check(len(workers) == 2, f"two workers were asked for: {status['processes']}")
        detected = next(one for one in self.admin.get("/v1/channels")["channels"] if one["name"] == self.real)["detected"]
        self.say(f"engine: auto of channel {self.real} was asked who it is: {detected or 'nobody knows'}")
        self.check(detected == {"llama": "openai", "sglang": "sglang"}[self.real], f"{self.real} was taken for {detected!r}")
        self.caller = asker(self.base_url, self.secret)

    def ask_each(self) -> None:
        assert self.caller is not None
        self.step(f"A plain and a streaming chat to each, with {self.caller.name}")
        for model in (self.real, "vllm", "mindie"):
            question = "Who are you?" if model == "llama" else f"Say hello to {model}, 请"
            self.say(f"{self.bold(model)}: {question}")
            whole = self.ask(model, question, temperature=0)
            self.tell(whole, "plain ")
            stream = self.ask(model, question, stream=True, temperature=0)
            self.tell(stream, "stream")
            for answer in (whole, stream):
                self.check(answer.channel == model and answer.attempts == 1, f"{model} was answered by {answer.channel}")
                self.check(answer.model == model, f"the answer names the model {answer.model!r}, the caller asked for {model!r}")
                self.check(bool(answer.text) and min(answer.tokens) > 0 and not answer.error, f"no answer of {model}: {answer}")
            self.check(stream.text == whole.text and stream.tokens == whole.tokens, "streamed and plain answers differ")
            self.check(stream.pieces > 1, "the stream came in one piece")

    def ask_the_team(self) -> None:
        self.step(f"One model before two engines: {ROUND} requests to team (vllm 3 : mindie 1)")
        served = self.ask_round("vllm", "mindie")
        self.check(served["mindie"] in (ROUND // 4 - 1, ROUND // 4, ROUND // 4 + 1), f"3 : 1 was promised, but it was {dict(served)}")

    def ask_round(self, *channels: str) -> Counter[str]:
        """ROUND requests to `team`, all answered, by these channels and no others."""
        answers = [self.ask("team", f"request {number}", max_tokens=6) for number in range(1, ROUND + 1)]
        self.say(" ".join(f"{answer.channel}{'' if answer.attempts < 2 else f'({answer.attempts} attempts)'}" for answer in answers))
        served = Counter(answer.channel for answer in answers)
        self.say("so " + ", ".join(f"{channel} {count}" for channel, count in served.most_common()))
        self.check(set(served) <= set(channels), f"{channels} should have served, but it was {dict(served)}")
        self.check(all(answer.text for answer in answers), "an answer is empty")
        return served

    def open_stream(self, model: str) -> OpenStream:
        assert self.caller is not None
        body = {"model": model, "messages": [{"role": "user", "content": "a long story"}], "max_tokens": LONG, "ignore_eos": True}
        stream = OpenStream(self.caller, body)
        stream.has(10)
        return stream

    def edit_beside_a_stream(self) -> None:
        self.step("The YAML is edited beside an open stream")
        stream = self.open_stream("vllm")
        self.say(f"a stream of {LONG} tokens is open, {len(stream.arrivals)} words have arrived, revision 1 is live; now, in an editor:")
        before = self.text
        self.text = before.replace("{channel: vllm, weight: 3}", f"{{channel: {self.real}, weight: 3}}").replace(
            "  vllm: {targets: [{channel: vllm}]}", f"  vllm: {{targets: [{{channel: {self.real}}}]}}"
        )
        diff = difflib.unified_diff(before.splitlines(), self.text.splitlines(), "gateway.yaml", "gateway.yaml", n=1, lineterm="")
        print("\n".join(f"     {line}" for line in diff))
        saved = time.monotonic()
        self.path.write_text(self.text)
        until(lambda: self.admin.get("/v1/status")["revision"]["rev"] == 2, CLOSED)
        live = time.monotonic()
        self.say(f"saved; {live - saved:.1f} s later revision 2 is live in both workers, without a command")
        new = self.ask("vllm", "and who serves now?")
        self.tell(new, "a new request:")
        self.check(new.channel == self.real, f"the new revision sends to {self.real}, but {new.channel} answered")
        served = self.ask_round(self.real, "mindie")
        self.check(served[self.real] > served["mindie"], f"the new weights are not in force: {dict(served)}")
        old = stream.end()
        self.answers[old.id] = old
        after = sum(1 for arrival in stream.arrivals if arrival > live)
        self.say(
            f"the open stream went on meanwhile: {after} of its {old.pieces} words came after the change, all of them from {old.channel}"
        )
        self.check(not old.error and old.channel == "vllm" and old.tokens[1] == LONG, f"the open stream was disturbed: {old.error or old}")
        self.check(after > 0, "the open stream had ended before the change: this machine is too slow or too fast")

    def lose_an_engine(self) -> None:
        self.step("An engine dies, and nobody notices")
        child = self.stage.children["mindie"]
        child.kill()
        self.say(f"$ kill -9 {child.process.pid}        # mindie, a quarter of team")
        served = self.ask_round(self.real)
        self.check(served[self.real] == ROUND, "not all were answered")
        detour = [answer for answer in self.answers.values() if answer.attempts > 1]
        self.say(
            f"{plural(len(detour), 'request')} met the dead engine first and went on to the next target, before the caller saw anything"
        )
        self.check(bool(detour), "no request met the dead engine")

    def break_a_stream(self) -> None:
        self.step("An engine dies in the middle of an answer, and the caller is told so")
        self.path.write_text(self.text.replace(f"  vllm: {{targets: [{{channel: {self.real}}}]}}", "  vllm: {targets: [{channel: vllm}]}"))
        until(lambda: self.admin.get("/v1/status")["revision"]["rev"] == 3, CLOSED)
        self.say("(gateway.yaml was changed again: the model vllm goes to the channel vllm, revision 3)")
        stream = self.open_stream("vllm")
        child = self.stage.children["vllm"]
        child.kill()
        self.say(f"$ kill -9 {child.process.pid}        # vllm, after {len(stream.arrivals)} words of {LONG}")
        answer = stream.end()
        self.answers[answer.id] = answer
        self.say(f'the stream ends with an error event and without [DONE]: "{answer.error}"')
        self.check(bool(answer.error) and 0 < answer.pieces < LONG, f"a broken stream looked complete: {answer}")
        until(lambda: {one["channel"] for one in self.unwell()} >= {"vllm", "mindie"}, CLOSED)
        self.say("$ gatewayctl health")
        for one in self.unwell():
            self.say(f"  {one['channel']:8}{one['state']}: {one.get('why') or 'no reason given'}")

    def unwell(self) -> list[dict[str, Any]]:
        return [one for one in self.admin.get("/v1/health")["endpoints"] if one["state"] not in ("up", "busy", "starting")]

    def bring_them_back(self) -> None:
        self.step("Both are started again")
        for name, model in {"vllm": "qwen3", "mindie": "qwen3-32b"}.items():
            port = int(self.urls[name].rpartition(":")[2])
            self.stage.engine(name, port=port, options=("--tps", str(PACE), "--ttft", "50ms", "--model", model))
        for name in ("vllm", "mindie"):
            answer = self.ask(name, f"welcome back, {name}")
            self.tell(answer, "plain ")
            self.check(answer.channel == name, f"{name} does not serve again")

    def show_records(self) -> None:
        self.step("What was written down, once each")
        expected = set(self.answers)
        found: list[dict[str, Any]] = []

        def complete() -> bool:
            found[:] = self.admin.get("/v1/requests?limit=1000")["requests"]
            return expected <= {record["id"] for record in found}

        until(complete, CLOSED)
        self.say(f"$ gatewayctl --config {self.path} requests tail")
        numbered = [{**record, "number": number} for number, record in enumerate(found, 1)]
        print("\n".join(f"   {line}" for line in show.table(self.session, numbered, RECORDS).splitlines()))
        self.check(len(found) == len(expected), f"{len(expected)} requests were made, but {len(found)} are recorded")
        for record in found:
            answer = self.answers[record["id"]]
            tokens = (record["tokens"].get("in", 0), record["tokens"].get("out", 0))
            self.check(
                answer.error != "" or tokens == answer.tokens, f"the caller was told {answer.tokens}, recorded is {tokens}: {record}"
            )
            self.check(record["end"] == ("UD" if answer.error else "--"), f"a wrong end: {record}")
            self.check(tokens[1] > 0, f"tokens are missing: {record}")
            self.check(record["key"] == "demo1" and record["tenant"] == "demo", f"a wrong key: {record}")
        used = Counter[str]()
        for record in found:
            used[record["channel"]] += record["tokens"].get("in", 0) + record["tokens"].get("out", 0)
        self.say("tokens: " + ", ".join(f"{channel} {count}" for channel, count in used.most_common()) + "; as the callers were told")

    def leave_running(self) -> None:
        program = shlex.quote(sys.argv[0]) if Path(sys.argv[0]).name == "gatewayctl" else "gatewayctl"
        body = '{"model": "team", "messages": [{"role": "user", "content": "hello"}]}'
        print(f"\n{self.bold('Left running')}. Ctrl-C ends it and removes everything.\n")
        show.facts(self.session, [("base URL", self.base_url), ("API key", self.secret), ("metrics", self.metrics_url)], 3)
        print()
        self.say(f"curl {self.base_url}/chat/completions -H 'Authorization: Bearer {self.secret}' \\")
        self.say(f"     -H 'Content-Type: application/json' -d '{body}'")
        for command in ("status", "health", "channels", "requests tail -f", "config history"):
            self.say(f"{program} --config {self.path} {command}")
        self.say(f"$EDITOR {self.path}")
