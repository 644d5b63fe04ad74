"""A site of its own that only speaks: what an agent would say to a hub, without sandbox or gate."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from benchmarks.scene import SMALL, Scene
from insitu.agent.hub_link import HubLink
from insitu.domain.digests import Digest
from insitu.domain.jobs import JobState
from insitu.wire.keys import SigningKey
from insitu.wire.sync import Assignment, AttemptReport, BaseOffer, Capacity, SyncRequest

_JOB = """
type: command
display_name: bench
experiment_name: bench
compute: {site}
code: .
command: "true"
environment: {{requirements: requirements.txt}}
metrics: [loss]
limits: {{timeout: 1h}}
"""


class SpeakingSite:
    def __init__(self, scene: Scene, name: str) -> None:
        self._world, self._name = scene.world(), name
        self._bases = [BaseOffer(digest=scene.base.digest, python=scene.base.python, platform=scene.base.platform)]
        self._started_at = datetime.now(UTC)
        self._reports: list[AttemptReport] = []
        key = SigningKey.generate()
        token = self._world.clients["jo"].create_site(name).join_token
        with_token = HubLink(self._world.url)
        with_token.join(token, key.public.text)
        with_token.close()
        self.link = HubLink(self._world.url, site=name, key=key)
        self._sync()
        scene.on_end(self.link.close)

    def take_job(self, folder: Path, requirements: str = SMALL) -> Assignment:
        """Submit a job for this site, and take it on until it runs."""
        (folder / "requirements.txt").write_text(requirements)
        (folder / "job.yaml").write_text(_JOB.format(site=self._name))
        job = self._world.alice.submit(folder / "job.yaml")
        mine = next(one for one in self._sync() if one.job_id == job.id)
        self._reports.append(
            AttemptReport(
                job_id=mine.job_id, attempt=mine.attempt, fence=mine.fence, state=JobState.RUNNING, last_seq=0
            )
        )
        self._sync()
        return mine

    def kept_at_the_hub(self, digest: Digest) -> Path:
        """Where the hub keeps a blob."""
        return next((self._world.folder / "hub").rglob(digest.removeprefix("sha256:")))

    def _sync(self) -> list[Assignment]:
        request = SyncRequest(
            agent_version="bench",
            started_at=self._started_at,
            sandbox="bubblewrap",
            policy_version=1,
            bases=self._bases,
            capacity=Capacity(cpus=8, memory_bytes=64 << 30, slots=8),
            attempts=self._reports,
        )
        return self.link.sync(request).assignments
