"""SGLang's /metrics page."""

from gateway.simulate.dialect import Whole
from gateway.simulate.engine import BLOCK_SIZE, KV_TOKENS, Engine
from gateway.simulate.metrics import Metric, exposition

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def page(engine: Engine) -> Whole:
    labels = {"model_name": engine.settings.models[0], "engine_type": "unified"}
    return Whole(exposition(families(engine), {**labels, "tp_rank": "0", "pp_rank": "0", "moe_ep_rank": "0"}), content_type=CONTENT_TYPE)


def families(engine: Engine) -> list[Metric]:
    histograms = engine.histograms
    rate = engine.generation_tokens / histograms.e2e.total if histograms.e2e.total else 0.0
    return [
        Metric("sglang:num_running_reqs", "The number of running requests.", "gauge", engine.running),
        Metric("sglang:num_queue_reqs", "The number of requests in the waiting queue.", "gauge", engine.waiting),
        Metric("sglang:token_usage", "The token usage.", "gauge", engine.kv_use),
        Metric("sglang:cache_hit_rate", "The prefix cache hit rate.", "gauge", 0.0),
        Metric("sglang:gen_throughput", "The generation throughput (token/s).", "gauge", rate),
        Metric("sglang:max_total_num_tokens", "Maximum number of tokens in the KV cache.", "gauge", KV_TOKENS),
        Metric("sglang:num_used_tokens", "The number of used tokens.", "gauge", engine.kv_tokens),
        Metric("sglang:kv_used_tokens", "The number of used KV tokens.", "gauge", engine.kv_tokens),
        Metric("sglang:num_retracted_reqs", "The number of retracted requests.", "gauge", 0),
        Metric("sglang:num_aborted_requests_total", "Number of aborted requests.", "counter", engine.aborted),
        Metric("sglang:prompt_tokens_total", "Number of prefill tokens processed.", "counter", engine.prompt_tokens),
        Metric("sglang:generation_tokens_total", "Number of generation tokens processed.", "counter", engine.generation_tokens),
        Metric("sglang:cached_tokens_total", "Number of cached prompt tokens.", "counter", 0),
        Metric("sglang:num_requests_total", "Number of requests processed.", "counter", engine.succeeded + engine.aborted),
        Metric("sglang:time_to_first_token_seconds", "Time to first token in seconds.", "histogram", histograms.ttft),
        Metric("sglang:inter_token_latency_seconds", "Inter-token latency in seconds.", "histogram", histograms.per_token),
        Metric("sglang:e2e_request_latency_seconds", "End-to-end latency in seconds.", "histogram", histograms.e2e),
        Metric("sglang:queue_time_seconds", "Queueing time in seconds.", "histogram", histograms.queue),
        Metric("sglang:page_size", "The page size of the KV cache.", "gauge", BLOCK_SIZE),
        Metric("sglang:num_pages", "The number of pages of the KV cache.", "gauge", KV_TOKENS // BLOCK_SIZE),
    ]
