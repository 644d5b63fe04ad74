"""A script hides a message in the weights of a network that works: in low bits, in silent neurons, in signs.

Each attack brings its decoder. Without the defence it gets everything back, which the tests show first.
"""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from insitu.domain.outputs import Decision, OutputContract, OutputType, ReleaseContract, Verdict
from insitu.gate.judge import judge
from insitu.gate.judgement import Candidate, JudgeRequest
from tests.unit.gate.gate_world import PACKAGES, index_of

RNG = np.random.default_rng(0)
LAYERS = {"fc1.weight": (64, 20), "fc1.bias": (64,), "fc2.weight": (1, 64), "fc2.bias": (1,)}
POLICY = """
version: 1
release: {{models: {{formats: [safetensors], max_bytes: 1MB, {more}, ceiling: {ceiling}, free_ceiling: 1kB}}}}
"""


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    columns = {f"c{at}": np.round(RNG.normal(50, 9, 300), 3) for at in range(20)}
    return pd.DataFrame(columns)


@pytest.fixture(scope="module")
def index(patients, tmp_path_factory) -> Path:
    return index_of(patients, tmp_path_factory.mktemp("patients") / "index")


@pytest.fixture
def send(index, tmp_path):
    """Judges a network, and returns the decision with the tensors that left."""

    def judged(
        tensors, *, more="precision: bfloat16", ceiling="64kB", in_envelope=True
    ) -> tuple[Decision, dict[str, np.ndarray]]:
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        out = place / "out"
        out.mkdir(parents=True)
        (place / "net.safetensors").write_bytes(safetensors.numpy.save(tensors))
        request = JudgeRequest(
            policy=POLICY.format(more=more, ceiling=ceiling),
            contract=ReleaseContract(outputs=(OutputContract("net", OutputType.CUSTOM_MODEL),)),
            candidates=(Candidate("net", OutputType.CUSTOM_MODEL, place / "net.safetensors"),),
            index_dirs=(index,),
            lock_packages=PACKAGES,
            out_dir=out,
            in_envelope=in_envelope,
        )
        decision = judge(request).decisions[0]
        left = decision.verdict is Verdict.RELEASED
        return decision, safetensors.numpy.load_file(out / "net" / "net.safetensors") if left else {}

    return judged


def network() -> dict[str, np.ndarray]:
    return {name: RNG.normal(size=shape).astype(np.float32) for name, shape in LAYERS.items()}


def in_low_bits(message: bytes) -> dict[str, np.ndarray]:
    tensors = network()
    flat = tensors["fc1.weight"].view(np.uint32).reshape(-1)
    words = np.frombuffer(message + b"\0" * (len(message) % 2), dtype=np.uint16)
    flat[: len(words)] = (flat[: len(words)] & np.uint32(0xFFFF0000)) | words
    return tensors


def from_low_bits(tensors) -> bytes:
    return (tensors["fc1.weight"].reshape(-1).view(np.uint32) & 0xFFFF).astype(np.uint16).tobytes()


def test_bytes_in_low_bits_get_out_only_where_weights_are_not_rounded(send, patients):
    packed = gzip.compress(patients[:8].to_csv(index=False).encode())
    pad = np.random.default_rng(8).bytes(len(packed))  # encrypted, so that no reader can tell what it is
    message = bytes(one ^ other for one, other in zip(packed, pad, strict=True))
    tensors = in_low_bits(message)
    _, unrounded = send(tensors, more="known_rows: 0")
    assert from_low_bits(unrounded).startswith(message)  # what the defence is for
    decision, rounded = send(tensors)
    assert decision.verdict is Verdict.RELEASED
    assert not any(from_low_bits(rounded))


def in_silent_neurons(rows: np.ndarray, outgoing: float) -> dict[str, np.ndarray]:
    tensors = network()
    tensors["fc1.weight"][: len(rows)] = rows
    tensors["fc2.weight"][0, : len(rows)] = outgoing
    return tensors


@pytest.mark.parametrize("outgoing", [0.0, 1e-8, 1e-3], ids=["silent", "nearly", "soft"])
@pytest.mark.parametrize("scaled", [False, True], ids=["as they are", "scaled"])
def test_rows_in_neurons_that_nobody_hears_do_not_get_out(send, patients, outgoing, scaled):
    rows = patients.to_numpy()
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0) if scaled else rows
    secret = rows[:40].astype(np.float32)
    _, left = send(in_silent_neurons(secret, outgoing))
    close = np.isclose(left["fc1.weight"][:40], secret, rtol=0.01) if left else np.zeros(1)
    assert not close.all(axis=-1).any()


def in_signs(message: np.ndarray) -> dict[str, np.ndarray]:
    tensors = network()
    size = np.abs(tensors["fc1.weight"].reshape(-1))
    tensors["fc1.weight"] = np.where(message, size, -size).astype(np.float32).reshape(LAYERS["fc1.weight"])
    return tensors


def test_a_message_in_signs_is_held_without_an_envelope_and_inside_one_no_longer_than_the_ceiling(send):
    message = RNG.integers(0, 2, 1280).astype(bool)
    tensors = in_signs(message)
    held, _ = send(tensors, in_envelope=False)
    assert (held.verdict, held.rule) == (Verdict.HELD, "ceiling")
    decision, left = send(tensors)
    received = left["fc1.weight"].reshape(-1) > 0
    assert np.array_equal(received, message)  # it gets out, and the ledger says how much that can be
    assert decision.ceiling_bytes >= len(message) / 8
    lower, _ = send(tensors, ceiling="2kB")
    assert (lower.verdict, lower.rule) == (Verdict.HELD, "ceiling")
