"""What every step at a site needs, made once in `main` and passed on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from insitu.agent.environments import Environments
from insitu.agent.folder import SiteFolder
from insitu.agent.folders_ahead import FoldersAhead
from insitu.agent.hub_link import HubLink
from insitu.agent.job_images import JobImages
from insitu.agent.judge_pool import JudgePool
from insitu.agent.ledger import Ledger
from insitu.agent.policy_file import PolicyFile
from insitu.agent.settings import AgentSettings
from insitu.agent.spare_threads import SpareThreads
from insitu.agent.staging.data_cache import DataCache
from insitu.agent.store import Store
from insitu.images.base import UnpackedBase
from insitu.intake.client import IntakePool
from insitu.sandbox.contract import Sandbox, SandboxSettings
from insitu.sandbox.keeper_pool import KeeperPool
from insitu.wire.keys import SigningKey


@dataclass(frozen=True)
class Site:
    """One site's parts. Holds no state of its own."""

    folder: SiteFolder
    settings: AgentSettings
    store: Store
    ledger: Ledger
    policy: PolicyFile
    link: HubLink
    key: SigningKey
    base: UnpackedBase
    sandbox: Sandbox
    sandbox_settings: SandboxSettings
    keepers: KeeperPool
    intakes: IntakePool
    judges: JudgePool
    cache: Path
    """Code and packages by digest; nothing in it is only here."""
    environments: Environments
    images: JobImages
    data: DataCache
    """Private bytes that jobs read; another folder than `cache`, since that may be shared with other sites."""
    environment: Mapping[str, str]
    """Of the agent's process, for datastores whose credentials stand there. Goes nowhere else."""
    folders: FoldersAhead
    now: Callable[[], datetime]
    """The site's clock, floored by the latest time it has recorded."""
    threads: SpareThreads = field(default_factory=SpareThreads)

    @property
    def sandbox_prefix(self) -> str:
        """Of the names of this site's sandboxes: two sites may share a machine, and a site's name is long."""
        return f"insitu-{hashlib.sha256(str(self.folder.root.resolve()).encode()).hexdigest()[:8]}-"

    def sandbox_name(self, job_id: str, attempt: int) -> str:
        """What an attempt's sandbox is called on this machine."""
        return f"{self.sandbox_prefix}{job_id}-{attempt}"
