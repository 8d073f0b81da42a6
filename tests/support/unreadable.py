"""Members of an answer that no reader of JSON-RPC takes."""

from __future__ import annotations

from typing import Final

UNREADABLE: Final = {
    "NaN": (b'"result":{"x":NaN}', r"byte \d+"),
    "infinity": (b'"result":{"x":-Infinity}', r"byte \d+"),
    "a lone surrogate": (b'"result":{"x":"\\ud83d"}', r"lone surrogate \(byte \d+\)"),
    "no UTF-8": (b'"result":{"x":"\xff"}', r"position \d+"),
    "trailing garbage": (b'"result":{}} x', r"byte \d+"),
    "cut off": (b'"result":{"x":[1', r"byte \d+"),
    "too deep": (b'"result":' + b"[" * 5000, "."),
    "result and error": (b'"result":{},"error":{"code":1,"message":"x"}', "not both"),
}
"""The members, and what is said of them."""
