"""The management plane of MindIE-LLM: health, facts about the model, and the paths that no caller may reach."""

import time
from collections.abc import Mapping

from gateway.simulate import mindie_metrics
from gateway.simulate.dialect import Received, Routes, Whole
from gateway.simulate.engine import Engine
from gateway.simulate.sse import encode

MANAGEMENT = "management"
ABNORMAL = Whole(b'{"message":"Service is abnormal"}', 500)
ALIVE_BUSY = Whole(b'{"message":"Service is alive but busy"}')
NOT_READY_BUSY = Whole(b'{"message":"Service is alive but busy. Consider reducing request frequency"}', 503)
TIMED_OUT = Whole(b'{"error":"Engine callback timeout","error_type":"Incomplete Generation"}', 500)
RUNNING_STATUS = {"ready": 0, "busy": 5, "down": 2}


class Management:
    """Handlers of the management plane, and the model facts that the business plane shows too."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.settings = engine, engine.settings

    def add_to(self, routes: Routes) -> None:
        for path, handler in (
            ("/health", self._health),
            ("/v2/health/live", self._live),
            ("/v2/health/ready", self._ready),
            ("/v2/models/{model}/ready", self._ready),
            ("/health/timed", self._timed),
            ("/info", self._info),
            ("/metrics-json", self._metrics_json),
            ("/v2/models/{model}/getSlotCount", self._slots),
            ("/v1/config", self._config),
            ("/v1/status", self._status),
            ("/v2/status", self._status),
            ("/v1/engine-server/running-status", self._running_status),
            ("/stopService", self._stop),
        ):
            routes.add("GET", path, handler, MANAGEMENT)

    def timed(self, path: str) -> Whole | None:
        """`/health/timed-<seconds>`, 1 to 600; None: another path."""
        seconds = path.removeprefix("/health/timed-")
        return self._timed() if seconds.isdigit() and 1 <= int(seconds) <= 600 and path.startswith("/health/timed-") else None

    def _health(self, *_: object) -> Whole:
        return Whole(status=503 if self.engine.health == "down" else 200)

    def _live(self, *_: object) -> Whole:
        return {"ready": Whole(), "busy": ALIVE_BUSY, "down": ABNORMAL}[self.engine.health]

    def _ready(self, *_: object) -> Whole:
        return {"ready": Whole(), "busy": NOT_READY_BUSY, "down": ABNORMAL}[self.engine.health]

    def _timed(self, *_: object) -> Whole:
        return TIMED_OUT if self.engine.health == "down" else Whole(b'{"status":"healthy"}')

    def _info(self, *_: object) -> Whole:
        settings = self.settings
        models = [
            {
                "model_device_type": "npu",
                "model_dtype": "float16",
                "model_id": name,
                "model_pipeline_tag": "text-generation",
                "model_sha": None,
                "max_total_tokens": settings.max_model_len,
            }
            for name in settings.models
        ]
        facts = {
            "docker_label": None,
            "max_batch_total_tokens": 8192,
            "max_best_of": 1,
            "max_concurrent_requests": settings.max_running or 200,
            "max_stop_sequences": None,
            "max_waiting_tokens": None,
            "sha": None,
            "validation_workers": None,
            "version": "1.0.0",
            "waiting_served_ratio": None,
            "models": models,
            "max_input_length": settings.max_input_len or settings.max_model_len,
        }
        return Whole(encode(facts))

    def model_config(self, request: Received, segments: Mapping[str, str]) -> Whole:
        facts = {
            "model_name": segments["model"],
            "input_datatype": "INT64",
            "output_datatype": "INT64",
            "max_seq_len": self.settings.max_model_len,
            "npu_mem_size": 8,
            "cpu_mem_size": 5,
            "world_size": 4,
            "model_weight_path": f"/models/{segments['model']}",
            "model_instance_type": "Standard",
        }
        return Whole(encode(facts))

    def _metrics_json(self, *_: object) -> Whole:
        return mindie_metrics.as_json(self.engine, f"{self.settings.host}:{self.settings.management_port or self.settings.port}")

    def _slots(self, *_: object) -> Whole:
        total = self.settings.max_running or 200
        return Whole(encode({"total_slots": total, "free_slots": max(0, total - self.engine.running)}))

    def _config(self, *_: object) -> Whole:
        return Whole(encode({"maxSeqLen": self.settings.max_model_len, "maxIterTimes": self.settings.max_iter_times}))

    def _status(self, *_: object) -> Whole:
        return Whole(encode({"processing": self.engine.running, "waiting": self.engine.waiting}))

    def _running_status(self, *_: object) -> Whole:
        errors: list[object] = []
        if self.engine.health == "down":
            errors = [{"timestamp": int(time.time()), "errCode": "MIE05E000000", "createdBy": "simulate"}]
        return Whole(encode({"status": RUNNING_STATUS[self.engine.health], "errors": errors}))

    def _stop(self, *_: object) -> Whole:
        return Whole(stops=True)
