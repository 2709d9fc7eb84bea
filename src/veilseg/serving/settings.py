"""How a server is run: command line over environment over file, checked before anything starts."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from veilseg.errors import InvalidInput, WrongUsage

ENVIRONMENT_PREFIX: Final = "VEILSEG_SERVE_"


class Settings(BaseModel):
    """Everything an operator chooses. Times are in seconds, sizes in bytes.

    Attributes
    ----------
    bundles : tuple of Path
        Served from the start.
    models : Path, optional
        Folder of bundles that can be loaded and unloaded while the server runs; all are
        served from the start.
    host, port
        Where to listen; port 0 takes a free one.
    runtime
        What computes the networks.
    precision
        Arithmetic inside the networks; ``auto`` is bf16 where runtime and CPU compute in it.
    engine
        Where networks are computed: in this process, or by replicas on Ray.
    ray_address : str, optional
        Of a cluster that runs already; by default one is started on this machine.
    min_replicas, max_replicas
        Of each network on Ray; between them their number follows the load.
    tokens : Path, optional
        Tokens file. Without one, everybody who reaches the server may use its models.
    tls_cert, tls_key, client_ca : Path, optional
        The server's certificate and key, and who vouches for clients' certificates (PEM).
    insecure
        Listen to other machines even without tokens or TLS.
    batch_size, streams, threads : int, optional
        Tiles that go through a network at once, batches that are computed side by side, and threads
        of all of them. A batch is always full: what is missing is filled up, so that no answer
        depends on who else asked. By default what ``--tune`` chose on this machine, else one tile
        on all cores. Who sets one of them sets them all: the choice does not count then.
    tuning : Path, optional
        Folder in which ``--tune`` keeps its choices; by default in the user's cache.
    batch_wait_s
        How long a tile waits for others to fill its batch.
    queue_places, queue_places_per_site
        Requests of one model that are read, wait or run at a time. A site that has none of
        them is always let in; more meet 429.
    deadline_s
        Within which a request has to be computed; later ones meet 504.
    body_timeout_s, head_timeout_s
        Within which a body or a request's head has to arrive.
    max_body_bytes : int, optional
        By default what the largest sound request to any of the models takes.
    max_head_bytes
        For the request line and headers.
    max_connections
        Open at a time, from anybody.
    rate_per_minute, rate_burst
        Requests for inference per site; 0 is without limit.
    drain_s
        How long running requests may take after SIGTERM.
    audit_log : Path, optional
        Where to write who asked for what; without it nothing is written.
    audit_sync
        Whether every entry is on the disk before its request is computed.
    log_format, log_level
        Lines for people or JSON objects, on standard error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundles: Annotated[tuple[Path, ...], NoDecode] = ()
    models: Path | None = None
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8000, ge=0, le=65535)
    runtime: Literal["openvino", "onnxruntime"] = "openvino"
    precision: Literal["auto", "bf16", "f32"] = "auto"

    tokens: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    insecure: bool = False

    batch_size: int | None = Field(default=None, ge=1, le=64)
    streams: int | None = Field(default=None, ge=1, le=256)
    threads: int | None = Field(default=None, ge=1, le=1024)
    tuning: Path | None = None

    engine: Literal["uvicorn", "ray"] = "uvicorn"
    ray_address: str | None = None
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    batch_wait_s: float = Field(default=0.0, ge=0, le=10)
    queue_places: int = Field(default=32, ge=1)
    queue_places_per_site: int = Field(default=16, ge=1)
    deadline_s: float = Field(default=110.0, gt=0)

    body_timeout_s: float = Field(default=60.0, gt=0)
    head_timeout_s: float = Field(default=20.0, gt=0)
    max_body_bytes: int | None = Field(default=None, ge=1)
    max_head_bytes: int = Field(default=16384, ge=1024)
    max_connections: int = Field(default=1000, ge=1)
    rate_per_minute: float = Field(default=0.0, ge=0)
    rate_burst: int = Field(default=100, ge=1)

    drain_s: float = Field(default=60.0, ge=0)
    audit_log: Path | None = None
    audit_sync: bool = True
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("bundles", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        # In the environment, as PATH writes several folders.
        return tuple(value.split(os.pathsep)) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key: give both or neither")
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas: more than max_replicas")
        if self.engine == "ray" and self.runtime != "openvino":
            raise ValueError(f"runtime: replicas on Ray compute by openvino, not {self.runtime}")
        if self.runtime == "onnxruntime" and (self.batch_size or 1) > 1:
            raise ValueError("batch_size: onnxruntime computes tile by tile; leave it at 1")
        if self.client_ca is not None and self.tls_cert is None:
            raise ValueError("client_ca: needs tls_cert and tls_key")
        return self


def load_settings(file: Path | None = None, given: Mapping[str, Any] | None = None) -> Settings:
    """Settings from the command line, the environment and a TOML file, in this order.

    Parameters
    ----------
    file : Path, optional
        TOML with the names of :class:`Settings` at its top.
    given : mapping, optional
        What the command line says; None counts as not said.

    Raises
    ------
    WrongUsage
        If a value cannot be used or a name is unknown; names it and where it stands.
    InvalidInput
        If the file cannot be read.
    """
    said = {name: value for name, value in (given or {}).items() if value is not None}
    written = {} if file is None else _parsed(file)
    variables = {name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)}
    unknown = sorted(variables - {_variable(name) for name in Settings.model_fields})
    if unknown:
        # A mistyped limit must not be a limit that is missing.
        raise WrongUsage(f"{unknown[0]}: there is no such setting")

    class Sources(Settings, BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - ditto
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                init_settings,
                env_settings,
                InitSettingsSource(settings_cls, written),
            )

    try:
        found = Sources(**said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise WrongUsage(reason) from error
        name = str(first["loc"][0])
        if name in said:
            place = f"--{name.replace('_', '-')}"
        else:
            place = _variable(name) if _variable(name) in variables else f"{file}: {name}"
        raise WrongUsage(f"{place}: {reason}") from error
    return Settings.model_validate(found.model_dump())


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInput(f"{file}: no TOML: {error}") from error
