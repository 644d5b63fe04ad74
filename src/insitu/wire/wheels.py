"""What an agent asks before it fetches the wheels of a lock.

The agent says which it lacks; the hub fetches what it lacks itself, once for all
sites, and says how far it is. Asking again changes nothing. A wheel that is `here`
is fetched as a blob, by its hash.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_SHA256 = r"^[0-9a-f]{64}$"
_DIGEST = r"^sha256:[0-9a-f]{64}$"


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WheelsRequest(_Message):
    lock: str = Field(pattern=_DIGEST)
    wanted: list[str] = Field(min_length=1, max_length=2000, description="sha256 of each wheel, in hex")
    wait_s: float = Field(default=0, ge=0, le=20, description="how long to wait for what is coming")


class WheelProblem(_Message):
    """Why the hub can't have a wheel."""

    sha256: str = Field(pattern=_SHA256)
    filename: str
    code: str
    what: str
    hint: str = ""


class WheelsReply(_Message):
    here: list[str] = Field(default_factory=list[str], description="may be fetched now")
    coming: list[str] = Field(default_factory=list[str], description="the hub is fetching them")
    failed: list[WheelProblem] = Field(default_factory=list[WheelProblem])


class WheelHashes(_Message):
    """Hashes of wheels, in hex."""

    sha256s: list[str] = Field(max_length=5000)


class StoredWheel(_Message):
    """A wheel that somebody brought to the hub."""

    sha256: str
    filename: str
    size_bytes: int
    new: bool
