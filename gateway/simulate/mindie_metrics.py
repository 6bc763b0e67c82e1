"""MindIE-LLM's /metrics page: no prefix, one label. And /metrics-json of the management plane."""

from gateway.simulate.dialect import Whole
from gateway.simulate.engine import BLOCK_SIZE, KV_TOKENS, Engine
from gateway.simulate.metrics import Metric, exposition
from gateway.simulate.sse import encode

NOT_MONITORED = b'{"error":"Environment variable MIES_SERVICE_MONITOR_MODE is not set.","error_type":"Incomplete Generation"}'


def page(engine: Engine) -> Whole:
    if not engine.settings.monitor:
        return Whole(NOT_MONITORED, 500)
    return Whole(exposition(families(engine), {"model_name": engine.settings.models[0]}), content_type="text/plain; charset=utf-8")


def families(engine: Engine) -> list[Metric]:
    histograms, busy = engine.histograms, engine.histograms.e2e.total
    share = engine.failed / engine.received if engine.received else 0.0
    prefill = engine.prompt_tokens / busy if busy else 0.0
    decode = engine.generation_tokens / busy if busy else 0.0
    return [
        Metric("request_received_total", "Count of received requests.", "counter", engine.received),
        Metric("request_success_total", "Count of successfully processed requests.", "counter", engine.succeeded),
        Metric("request_failed_total", "Count of failed requests.", "counter", engine.failed),
        Metric("num_requests_running", "Number of requests currently running on NPU.", "gauge", engine.running),
        Metric("num_requests_waiting", "Number of requests waiting to be processed.", "gauge", engine.waiting),
        Metric("num_requests_swapped", "Number of requests swapped to CPU.", "gauge", 0),
        Metric("avg_prompt_throughput_toks_per_s", "Average prefill throughput in tokens/s.", "gauge", prefill),
        Metric("avg_generation_throughput_toks_per_s", "Average generation throughput in tokens/s.", "gauge", decode),
        Metric("failed_request_perc", "Requests failure rate. 1 means 100 percent usage.", "gauge", share),
        Metric("prompt_tokens_total", "Number of prefill tokens processed.", "counter", engine.prompt_tokens),
        Metric("generation_tokens_total", "Number of generation tokens processed.", "counter", engine.generation_tokens),
        Metric("npu_cache_usage_perc", "NPU KV-cache usage. 1 means 100 percent usage.", "gauge", engine.kv_use),
        Metric("cpu_cache_usage_perc", "CPU KV-cache usage. 1 means 100 percent usage.", "gauge", 0),
        Metric("npu_prefix_cache_hit_rate", "NPU prefix cache block hit rate.", "gauge", 0),
        Metric("num_preemptions_total", "Cumulative number of preemption from the engine.", "counter", 0),
        Metric("time_to_first_token_seconds", "Histogram of time to first token in seconds.", "histogram", histograms.ttft),
        Metric("time_per_output_token_seconds", "Histogram of time per output token in seconds.", "histogram", histograms.per_token),
        Metric("e2e_request_latency_seconds", "Histogram of end to end request latency in seconds.", "histogram", histograms.e2e),
        Metric("request_prompt_tokens", "Number of prefill tokens processed.", "histogram", histograms.prompt),
        Metric("request_generation_tokens", "Number of generation tokens processed.", "histogram", histograms.generation),
    ]


def as_json(engine: Engine, instance: str) -> Whole:
    """`GET /metrics-json`: latencies in milliseconds, and what the scheduler holds."""
    values = {
        "TTFT": 1000 * engine.settings.ttft,
        "TBT": 1000 / engine.settings.tps if engine.settings.tps else 0.0,
        "waitingInferRequestNum": engine.waiting,
        "processingInferRequestNum": engine.running,
        "remainBlocks": (KV_TOKENS - engine.kv_tokens) // BLOCK_SIZE,
    }
    rows = [{"metric": [{"__name__": name, "job": "node", "instance": instance}], "value": str(value)} for name, value in values.items()]
    return Whole(encode({"resultType": "vector", "result": rows}))
