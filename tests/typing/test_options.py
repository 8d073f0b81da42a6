"""The options that are written down for type checkers are those that functions take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from trio_mcp import Client, TaskHandle, open_client, serve_http
from trio_mcp.client.call_options import (
    AnyCall,
    AwaitOptions,
    PlainCall,
    ReadOptions,
    RequestOptions,
    StartCall,
    TaskCall,
    WaitOptions,
)
from trio_mcp.client.connection_options import ConnectionOptions
from trio_mcp.server.http_options import HttpOptions


@pytest.mark.parametrize(
    ("options", "function", "others"),
    [
        (ConnectionOptions, open_client, ["target"]),
        (HttpOptions, serve_http, ["target", "task_status"]),
        (PlainCall, Client.call_tool, ["self", "name", "arguments", "result_type"]),
        (TaskCall, Client.call_tool, ["self", "name", "arguments", "result_type"]),
        (AnyCall, Client.call_tool, ["self", "name", "arguments", "result_type"]),
        (StartCall, Client.start_call, ["self", "name", "arguments", "result_type"]),
        (WaitOptions, TaskHandle.result, ["self", "result_type"]),
        (RequestOptions, Client.get_prompt, ["self", "name", "arguments"]),
        (RequestOptions, Client.complete, ["self", "ref", "argument", "context_arguments"]),
        (ReadOptions, Client.read_resource, ["self", "uri"]),
    ],
)
def test_options_are_those_of_the_signature(
    options: type[Any], function: Callable[..., Any], others: list[str]
) -> None:
    parameters = dict(inspect.signature(function).parameters)
    for name in others:
        del parameters[name]
    assert options.__annotations__.keys() == parameters.keys()
    hints = {name: hint.__forward_arg__ for name, hint in options.__annotations__.items()}
    written = {name: parameter.annotation for name, parameter in parameters.items()}
    if "task" in hints:
        hints["task"] = written["task"]  # of which these options are one case
    assert hints == written


def test_a_task_is_awaited_with_the_options_of_its_handle_and_a_progress_handler() -> None:
    assert AwaitOptions.__annotations__.keys() == {*WaitOptions.__annotations__, "progress_handler"}
