"""What a data scientist writes: understood whole, or refused with what was probably meant."""

from __future__ import annotations

import json

import pytest
import rfc8785

from insitu.domain.errors import InvalidInputError
from insitu.wire.job_file import command_line, job_schema, load_job_file, parse_job_document

JOB = """
type: command
display_name: wdbc-logistic
command: python train.py --data ${{inputs.patients}} --C ${{inputs.C}} --out ${{outputs.model}}
environment: {requirements: requirements.txt}
inputs:
  patients: {type: dataset, dataset: wdbc@1, mode: ro_mount}
  C: 1.0
outputs:
  model: {type: mlflow_model, register: breast-cancer, max_bytes: 2MB}
resources: {cpus: 1, memory: 1GiB, gpus: 0}
limits: {timeout: 10m}
"""


def test_sizes_and_times_become_numbers() -> None:
    job = load_job_file(JOB)
    assert job.resources.memory == 1 << 30
    assert job.limits.timeout == 600
    assert job.outputs["model"].max_bytes == 2_000_000
    assert job.datasets["patients"].version == 1


def test_inputs_and_outputs_are_filled_into_the_command() -> None:
    assert command_line(load_job_file(JOB)) == (
        "python train.py --data /job/inputs/patients --C 1 --out /job/outputs/model"
    )


def test_a_number_is_shown_as_it_will_read_once_it_was_signed() -> None:
    """Canonical JSON has no 1.0: what a person is shown before must be what the site runs."""
    for text in ("1.0", "0.25", "1e21", "1e-7"):
        job = load_job_file(JOB, changes={"inputs.C": text})
        signed = parse_job_document(json.loads(rfc8785.dumps(job.as_document())))
        assert command_line(job) == command_line(signed), text


def test_a_value_with_a_space_stays_one_word() -> None:
    job = load_job_file(JOB, changes={"inputs.C": "'1; touch /tmp/x'"})
    assert "--C '1; touch /tmp/x' --out" in command_line(job)


def test_set_changes_one_value() -> None:
    assert load_job_file(JOB, changes={"inputs.C": "0.25"}).inputs["C"] == 0.25


@pytest.mark.parametrize(
    ("before", "after", "meant"),
    [
        ("limits: {timeout: 10m}", "limits: {timout: 10m}", "timeout"),
        ("display_name:", "display_nam:", "display_name"),
        ("{requirements: requirements.txt}", "{requirement: requirements.txt}", "requirements"),
        ("mode: ro_mount", "mod: ro_mount", "mode"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_what_was_meant(before: str, after: str, meant: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_job_file(JOB.replace(before, after))
    assert caught.value.exit_code == 2
    assert meant in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "not YAML"),
        ("- a", "no mapping"),
        (JOB.replace("type: command", "type: sweep"), "sweep"),
        (JOB.replace("inputs.C}}", "inputs.D}}"), "inputs.D"),
        (JOB.replace("gpus: 0", "gpus: 1"), "gpus"),
        (JOB.replace("register: breast-cancer", "register: ../x"), "can't name a model"),
        (JOB.replace("type: mlflow_model", "type: uri_folder"), "only an output of type mlflow_model"),
        (JOB.replace("wdbc@1", "/srv/data"), "dataset"),
        (JOB.replace("10m", "ten minutes"), "timeout"),
    ],
)
def test_bad_input_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_job_file(text)
    assert says in str(caught.value)


def test_setting_what_is_not_there_names_what_is() -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_job_file(JOB, changes={"inputs.c": "1"})
    assert "'C'" in str(caught.value) or "C" in caught.value.hint


def test_the_schema_has_the_keys_of_the_file() -> None:
    assert {"command", "inputs", "outputs", "environment"} <= set(job_schema()["properties"])


def test_a_custom_model_can_be_registered() -> None:
    job = load_job_file(JOB.replace("type: mlflow_model", "type: custom_model"))
    assert (job.contract.outputs[0].type.value, job.contract.outputs[0].register) == ("custom_model", "breast-cancer")
