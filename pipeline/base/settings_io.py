"""Settings of a deployment: environment variables `PSTN_…`, overridden by command-line options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pipeline.base.calendar import MS_PER_DAY
from pipeline.base.topics import INPUT_RETENTION_MS

Role = Literal["ledger", "loader", "notifier", "payments", "invoices"]
ROLES: tuple[Role, ...] = ("ledger", "loader", "notifier", "payments", "invoices")


class Settings(BaseSettings):
    """One worker's settings. Each field is the variable `PSTN_` + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="PSTN_", extra="forbid", frozen=True)

    bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port with commas")
    topic_prefix: str = Field("pstn.", description="stands before every topic, group and transactional id")
    partition_count: int = Field(12, ge=1, le=10_000, description="of topics that are created; never changes")
    replication_factor: int = Field(1, ge=1, le=15, description="replicas of every topic; 3 in production")
    embedded_broker: bool = Field(
        False, description="the broker is librdkafka's in-process cluster: no checksums, no settings, no isolation"
    )

    roles: Annotated[tuple[Role, ...], NoDecode] = Field(ROLES, description="what this worker does, with commas")
    tables: Path | None = Field(None, description="folder of the rating tables; default: those shipped")
    warehouse: str = Field("chdb:warehouse", description="clickhouse://host:port/database or chdb:FOLDER")
    mask_numbers: bool = Field(True, description="exports hide the end of outside numbers where a country's law asks")
    outbox: Path = Field(Path("outbox"), description="folder that takes the notices as mails")
    declined_tenants: str = Field(
        "", description="regular expression of the tenants whose simulated card has expired; empty: one in ten"
    )
    customers: Path | None = Field(
        None, description="TOML file of sellers and tenants: names, languages, contacts, agreements"
    )

    invoice_font: Path | None = Field(None, description="TrueType or OpenType file for invoices; default: DejaVu Sans")

    smtp_host: str = Field("", description="mail server of the notices; empty: mails go into the outbox folder")
    smtp_port: int = Field(587, ge=1, le=65_535, description="port of the mail server")
    smtp_security: Literal["starttls", "tls", "none"] = Field("starttls", description="none: on this machine only")
    smtp_username: str = Field("", description="who logs in at the mail server; empty: nobody does")
    smtp_password: SecretStr = Field(SecretStr(""), description="password of smtp_username")
    smtp_ca: Path | None = Field(
        None, description="PEM file of a private authority that signed the server's certificate"
    )
    mail_from: str = Field(
        "Communications Credits <credits@pstn.invalid>", description="sender of the notices: Name <mailbox@domain>"
    )

    gateway: Literal["simulated", "http", "invoice"] = Field(
        "simulated", description="http: cards by a processor's API, agreements on invoice; invoice: agreements only"
    )
    gateway_url: str = Field("", description="collection of payments, such as https://host/v1/payment_intents")
    gateway_key: SecretStr = Field(SecretStr(""), description="the processor's API key")
    gateway_body: Literal["json", "form"] = Field("json", description="how the processor wants its fields")
    gateway_timeout_s: float = Field(20, gt=0, le=300, description="after it a payment is open, and asked again")
    gateway_webhook_secret: SecretStr = Field(
        SecretStr(""), description="signs the processor's messages to /payments/webhook; empty: there is no such page"
    )

    web_host: str = Field("127.0.0.1", description="address of /metrics and /healthz")
    web_port: int = Field(6066, ge=0, le=65_535, description="port of /metrics and /healthz")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal")

    tokens: Path = Field(Path("tokens.json"), description="file of the API's tokens, hashed; `pstn token` writes it")
    api_host: str = Field("127.0.0.1", description="address of `pstn api`")
    api_port: int = Field(8080, ge=1, le=65_535, description="port of `pstn api`")
    api_tls_certificate: Path | None = Field(None, description="PEM file; without it the API speaks plain HTTP")
    api_tls_key: Path | None = Field(None, description="PEM file of the certificate's key")
    api_body_bytes_max: int = Field(1_048_576, ge=1_024, description="larger requests are refused")
    api_requests_per_s: float = Field(50, gt=0, description="of one token, authorize not counted")
    api_authorize_per_s: float = Field(5_000, gt=0, description="authorize requests of one token")

    session_timeout_ms: int = Field(30_000, ge=1_000, description="silence after which a worker counts as dead")
    rebalance_timeout_ms: int = Field(60_000, ge=1_000, description="time that workers have to let go at a rebalance")
    transaction_timeout_ms: int = Field(60_000, ge=1_000, description="fencing, not this, frees a dead owner's hold")
    restore_stall_s: float = Field(30, gt=0, description="a restore without progress for so long is given up")
    slice_records_max: int = Field(2_000, ge=1, description="records in one transaction")
    slice_cpu_ms: int = Field(200, ge=1, description="CPU time of one slice, so that the loop stays responsive")
    linger_ms: int = Field(50, ge=0, description="pause between two slices of a partition that is not behind")
    tick_interval_s: float = Field(60, gt=0, description="how often time is let pass for accounts without traffic")

    duplicate_window_days: int = Field(7, ge=1, description="re-sent calls are recognised for so long (D: step 1)")
    audit_days: int = Field(
        2_557,
        ge=INPUT_RETENTION_MS // MS_PER_DAY,
        description="commands stay on their topic, for `pstn audit`; 7 years",
    )
    call_age_days_max: int = Field(400, ge=1, description="older calls are rejected")
    international_quota_closes_domestic: bool = Field(False, description="R23: the end of either quota closes both")
    overdraft_allowed: bool = Field(True, description="R61: a call that took place is charged below zero")

    @field_validator("roles", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return tuple(part.strip() for part in given.split(",")) if isinstance(given, str) else given

    def topic(self, name: str) -> str:
        """Full name of a topic."""
        return self.topic_prefix + name

    def group(self, role: str) -> str:
        """Consumer group of a role; also the stem of the ledger's transactional ids."""
        return f"{self.topic_prefix}{role}"
