"""A real engine for tests and the demo: llama.cpp's own server on a tiny GGUF model made on the spot.

It proves the gateway against an engine we did not write. It is never a product feature: `gguf`, `numpy` and
`xllamacpp` are development packages, imported only when a server is asked for.

By hand: `python -m gateway.simulate.llama --port 8001`. In code: `with LlamaServer() as llama: llama.url`.
"""

import argparse
import importlib.util
import os
import select
import signal
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

ANSWER = "This answer comes from llama.cpp itself: one tiny random model, made on the spot, says every word as its own token, then stops."
"""What the model says to every prompt (each word once, so that a chain over single words can hold it)."""

WORDS = ANSWER.split()
"""One token each: the answer is `len(WORDS) + 1` completion tokens long, its end included."""

_SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
_END = _SPECIAL.index("<|im_end|>")
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LAYERS, _WIDTH, _HEADS, _INNER, _TRAINED = 2, 64, 4, 128, 32768


class Missing(RuntimeError):
    """A development package that this engine needs is not installed."""


def _need(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as why:
        raise Missing(f"llama.cpp needs the Python package {name!r}: pip install -r requirements/dev.txt ({why})") from why


def _vocabulary() -> tuple[list[str], list[int]]:
    """Pieces and their GGUF types: 1 normal, 2 unknown, 3 control, 6 byte. Any prompt is spelled in bytes."""
    spoken = [WORDS[0], *("\u2581" + word for word in WORDS[1:])]
    pieces = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *spoken]
    return pieces, [2, *[3] * (len(_SPECIAL) - 1), *[6] * 256, *[1] * len(spoken)]


def write_model(path: str, *, seed: int = 1) -> None:
    """Write a llama-architecture GGUF of about half a megabyte to `path`.

    Layers and embeddings are random; only the output matrix is not: the row of each word points at the embedding of the
    word before it (`logit = 0.5 · |e|²`, about 32 against noise of 4), so that the model speaks `ANSWER` at any usual temperature.
    """
    np, gguf = _need("numpy"), _need("gguf")
    rng = np.random.default_rng(seed)
    pieces, types = _vocabulary()
    first = len(pieces) - len(WORDS)
    embedding = rng.standard_normal((len(pieces), _WIDTH), dtype=np.float32)
    output = np.zeros_like(embedding)
    chain = [len(_SPECIAL) + ord("\n"), *range(first, len(pieces)), _END]  # the template ends with a newline
    for before, after in pairwise(chain):
        output[after] = 0.5 * embedding[before]
    output[first] += 0.3 * embedding[-1]  # with `ignore_eos` the answer starts again: a stream as long as a test likes

    model = gguf.GGUFWriter(path, "llama")
    _describe(model, pieces, types)
    model.add_tensor("token_embd.weight", embedding)
    model.add_tensor("output.weight", output)
    model.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    shapes = {f"attn_{name}": (_WIDTH, _WIDTH) for name in ("q", "k", "v", "output")}
    shapes |= {"ffn_gate": (_INNER, _WIDTH), "ffn_up": (_INNER, _WIDTH), "ffn_down": (_WIDTH, _INNER)}
    for layer in range(_LAYERS):
        for name, shape in shapes.items():
            model.add_tensor(f"blk.{layer}.{name}.weight", 0.02 * rng.standard_normal(shape, dtype=np.float32))
        for name in ("attn_norm", "ffn_norm"):
            model.add_tensor(f"blk.{layer}.{name}.weight", np.ones(_WIDTH, np.float32))
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


def _describe(model: Any, pieces: list[str], types: list[int]) -> None:
    """Write the model's sizes, its tokenizer and its chat template."""
    model.add_name("tiny-llama")
    model.add_vocab_size(len(pieces))
    model.add_context_length(_TRAINED)
    model.add_embedding_length(_WIDTH)
    model.add_block_count(_LAYERS)
    model.add_feed_forward_length(_INNER)
    model.add_head_count(_HEADS)
    model.add_head_count_kv(_HEADS)
    model.add_rope_dimension_count(_WIDTH // _HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_tokenizer_model("llama")
    model.add_token_list(pieces)
    model.add_token_scores([0.0] * len(pieces))
    model.add_token_types(types)
    model.add_bos_token_id(_SPECIAL.index("<s>"))
    model.add_eos_token_id(_END)
    model.add_unk_token_id(_SPECIAL.index("<unk>"))
    model.add_add_bos_token(False)
    model.add_chat_template(_TEMPLATE)


class LlamaServer:
    """llama.cpp's server in a child process on 127.0.0.1, so that it can be killed like any engine.

    `start` returns when it listens (about 0.5 s). `port=0` takes a free one; a later `start` takes the same one again.
    The child ends with its parent, however that ends. `url` has no `/v1` at its end.
    """

    def __init__(self, port: int = 0, *, model: str = "tiny-llama", slots: int = 4, context: int = 16384, api_key: str = "") -> None:
        self.port, self.model = port, model
        self._options = [f"--model={model}", f"--slots={slots}", f"--context={context}", f"--api-key={api_key}"]
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError("the llama.cpp server is not running")
        return self._child.pid

    def start(self, timeout: float = 30.0) -> Self:
        """Start the child and wait until it listens: at most `timeout` seconds, or RuntimeError with the child's words."""
        if self._child is not None:
            raise RuntimeError("the llama.cpp server is already running")
        command = [sys.executable, "-m", "gateway.simulate.llama", f"--port={self.port}", *self._options, "--with-parent"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with tempfile.TemporaryFile() as words:
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, env=environment)
            self._child = child
            assert child.stdout is not None  # asked for above
            ready, _, _ = select.select([child.stdout], [], [], timeout)
            line = child.stdout.readline().decode() if ready else ""
            if not line.startswith("ready "):
                self.kill()
                words.seek(0)
                said = words.read().decode(errors="replace").strip()[-2000:]
                raise RuntimeError(f"llama.cpp did not start within {timeout:g} s: {said or 'no message'}")
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def stop(self) -> None:
        """End it politely. Stopping what does not run is no error."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would: no goodbye to open connections."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.send_signal(how)
        child.wait(10)
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _serve(args: argparse.Namespace) -> None:
    """The child: write the model into memory (no file is left behind), serve it, print `ready <url>`, and wait."""
    xllamacpp = _need("xllamacpp")
    model = f"/proc/self/fd/{os.memfd_create('tiny-llama.gguf')}"
    write_model(model)
    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = model, {args.model}
    params.port, params.api_keys = args.port, [args.api_key] if args.api_key else []
    params.n_parallel, params.n_ctx, params.kv_unified = args.slots, args.context, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics, params.ui, params.warmup, params.fit_params = True, False, False, False
    params.cache_ram_mib, params.verbosity = 0, 1
    server = xllamacpp.Server(params)
    print("ready", server.listening_address, flush=True)
    if args.with_parent:
        sys.stdin.buffer.read()  # ends when the parent does
    else:
        signal.pause()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gateway.simulate.llama", description="llama.cpp's server on a tiny model")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--model", default="tiny-llama", help="the name it serves under")
    parser.add_argument("--slots", type=int, default=4, help="requests served at once")
    parser.add_argument("--context", type=int, default=16384, help="tokens of all slots together")
    parser.add_argument("--api-key", default="", help="refuse callers without it")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input ends")
    args = parser.parse_args()
    try:
        _serve(args)
    except Missing as why:
        parser.exit(1, f"{why}\n")
    except KeyboardInterrupt:
        os._exit(0)


if __name__ == "__main__":
    main()
