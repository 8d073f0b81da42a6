"""A modern POST is decoded once: its message, its parameters with their `_meta`, its arguments."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


def decoded_for(tool: str) -> list[tuple[str, str]]:
    command = [sys.executable, "-m", "tests.support.decoding_post", tool]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [(kind, text) for kind, text in json.loads(done.stdout)]


@pytest.mark.parametrize("tool", ["echo", "mirrored"])
def test_meta_and_parameters_are_decoded_once(tool):
    entries = decoded_for(tool)
    with_meta = [kind for kind, text in entries if '"_meta"' in text]
    assert with_meta == ["_Envelope", "CallToolParams"], entries  # the first decoding skips the parameters


def test_arguments_are_decoded_once():
    entries = decoded_for("echo")
    arguments = [kind for kind, text in entries if "some text" in text and '"_meta"' not in text]
    assert arguments == ["Arguments"], entries


def test_only_mirrored_arguments_are_read_before_the_validation():
    entries = decoded_for("mirrored")
    alone = [text for _, text in entries if text == '"here"']
    whole = [kind for kind, text in entries if "some text" in text and '"_meta"' not in text]
    assert len(alone) == 1, entries
    assert whole == ["dict", "Arguments"], entries  # the first decoding skips the values
