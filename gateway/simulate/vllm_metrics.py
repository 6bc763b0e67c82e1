"""vLLM's /metrics page and its ORCA header."""

from gateway.simulate.dialect import Whole
from gateway.simulate.engine import BLOCK_SIZE, KV_TOKENS, Engine
from gateway.simulate.metrics import Metric, exposition

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REASONS = ("stop", "length", "abort", "error")


def page(engine: Engine) -> Whole:
    labels = {"model_name": engine.settings.models[0], "engine": "0"}
    return Whole(exposition(families(engine), labels), content_type=CONTENT_TYPE)


def orca(engine: Engine) -> str:
    gauges = {
        "kv_cache_usage_perc": engine.kv_use,
        "num_requests_running": engine.running,
        "num_requests_waiting": engine.waiting,
    }
    return "TEXT " + ", ".join(f"named_metrics.{name}={value}" for name, value in gauges.items())


def families(engine: Engine) -> list[Metric]:
    release, histograms = engine.settings.release, engine.histograms
    ends = {**engine.finished, "abort": engine.aborted, "error": engine.failed}
    ends["stop"] = ends.get("stop", 0) + ends.pop("tool_calls", 0)
    by_reason = [({"finished_reason": reason}, float(ends.get(reason, 0))) for reason in REASONS]
    cache = "vllm:kv_cache_usage_perc" if release >= (0, 13) else "vllm:gpu_cache_usage_perc"
    per_token = "vllm:request_time_per_output_token_seconds" if release >= (0, 18) else "vllm:time_per_output_token_seconds"
    config = [({"block_size": str(BLOCK_SIZE), "num_gpu_blocks": str(KV_TOKENS // BLOCK_SIZE)}, 1.0)]
    waiting = [({"reason": "capacity"}, float(engine.waiting)), ({"reason": "deferred"}, 0.0)]
    return [
        Metric("vllm:num_requests_running", "Number of requests in model execution batches.", "gauge", engine.running),
        Metric("vllm:num_requests_waiting", "Number of requests waiting to be processed.", "gauge", engine.waiting),
        Metric("vllm:num_requests_waiting_by_reason", "Number of waiting requests by reason.", "gauge", waiting),
        Metric(cache, "KV-cache usage. 1 means 100 percent usage.", "gauge", engine.kv_use),
        Metric("vllm:prefix_cache_queries_total", "Prefix cache queries, in tokens.", "counter", engine.prompt_tokens),
        Metric("vllm:prefix_cache_hits_total", "Prefix cache hits, in tokens.", "counter", 0),
        Metric("vllm:prompt_tokens_total", "Number of prefill tokens processed.", "counter", engine.prompt_tokens),
        Metric("vllm:prompt_tokens_cached_total", "Number of cached prompt tokens.", "counter", 0),
        Metric("vllm:generation_tokens_total", "Number of generation tokens processed.", "counter", engine.generation_tokens),
        Metric("vllm:request_success_total", "Count of successfully processed requests.", "counter", by_reason),
        Metric("vllm:num_preemptions_total", "Cumulative number of preemptions.", "counter", 0),
        Metric("vllm:admission_rejections_total", "Requests refused at admission.", "counter", engine.rejected),
        Metric("vllm:time_to_first_token_seconds", "Time to first token in seconds.", "histogram", histograms.ttft),
        Metric("vllm:inter_token_latency_seconds", "Inter-token latency in seconds.", "histogram", histograms.per_token),
        Metric(per_token, "Time per output token in seconds.", "histogram", histograms.per_token),
        Metric("vllm:e2e_request_latency_seconds", "End-to-end latency in seconds.", "histogram", histograms.e2e),
        Metric("vllm:request_queue_time_seconds", "Time in the waiting phase.", "histogram", histograms.queue),
        Metric("vllm:request_prompt_tokens", "Number of prefill tokens processed.", "histogram", histograms.prompt),
        Metric("vllm:request_generation_tokens", "Number of generation tokens processed.", "histogram", histograms.generation),
        Metric("vllm:cache_config_info", "Information of the KV cache.", "gauge", config),
        Metric("vllm:engine_sleep_state", "Engine sleep state.", "gauge", [({"sleep_state": "awake"}, 1.0)]),
    ]
