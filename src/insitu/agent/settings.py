"""What an agent is told: `agent.yaml`, each value with what it costs or risks."""

from __future__ import annotations

from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from insitu.agent.folder import SiteFolder, write_atomic
from insitu.domain.errors import InvalidInputError
from insitu.wire.job_file import ByteCount
from insitu.wire.names import explain


class AgentSettings(BaseModel):
    """The file `agent.yaml`. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    site: str = ""  # filled in by the join
    hub: str  # URL that the agent dials
    hub_key: str = ""  # the hub's public key, pinned at join
    ca_file: str | None = None  # certificate authority of the hub's TLS, when it is not a public one
    sandbox: Literal["podman", "docker", "bubblewrap"] | None = None  # none: an engine if there is one
    docker_socket: str = "/var/run/docker.sock"
    base: str | None = None  # digest of the base that jobs run on; none: the only one in base_layout
    base_layout: str = ""  # OCI layout folder that holds the base
    cache: str = ""  # folder for packages and code by digest; empty: inside the site's own; it can be large
    slots: int = Field(default=4, ge=1, le=256)  # jobs at a time
    cpus: float = Field(default=0, ge=0)  # for all jobs together; 0: what the machine has
    memory: ByteCount | None = None  # for all jobs together; none: three quarters of the machine's
    data_cache: ByteCount | None = None  # most bytes of datasets kept here for jobs; none: half of the disk
    index_memory: ByteCount = 256 << 20  # that indexing a dataset may take; more makes it quicker where data is larger
    first_uid: int = Field(default=210_000, ge=1000)  # host uids from here on are given to jobs and gates
    index_url: str | None = None  # where wheels come from; none: the hub. Hashes are checked whatever it serves
    offline: bool = False  # true: wheels from the site's cache only
    warm: int = Field(default=1, ge=0, le=16)  # sandboxes and gates kept ready; each costs about 30 MB
    serve_host: str = "127.0.0.1"  # address that deployments listen on
    wait_s: float = Field(default=25.0, gt=0, le=60)  # length of one long poll

    @property
    def gate_gid(self) -> int:
        """Host group of the gate's processes: they reach what they judge, and no job has it."""
        return self.first_uid


def load_settings(folder: SiteFolder) -> AgentSettings:
    """Read `agent.yaml`.

    Raises:
        NotFoundError: the folder is not a site's.
        InvalidInputError: the file is not right; it names the key.
    """
    folder.check_is_site()
    try:
        document = yaml.safe_load(folder.settings.read_text()) or {}
        return AgentSettings.model_validate(document)
    except yaml.YAMLError as exc:
        raise InvalidInputError(f"{folder.settings} is not YAML", code="agent-settings") from exc
    except ValidationError as exc:
        raise explain(exc, AgentSettings, what=str(folder.settings), code="agent-settings") from exc


def save_settings(folder: SiteFolder, settings: AgentSettings) -> None:
    text = yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True), sort_keys=False)
    write_atomic(folder.settings, text.encode())
