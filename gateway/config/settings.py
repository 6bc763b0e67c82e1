"""What the process takes from its environment, before any file is read."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """GATEWAY_CONFIG, GATEWAY_LOG_LEVEL, GATEWAY_LOG_FORMAT."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", frozen=True, extra="ignore")

    config: Path = Field(default=Path("/etc/gateway/gateway.yaml"), description="The configuration file.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines that are logged."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Log lines for people or for machines.")
