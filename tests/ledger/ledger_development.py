"""``koinon node start --dev`` as the process a developer starts, for tests that bring their own client."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Development:
    """A running development chain, as it introduced itself."""

    url: str
    websocket: str
    chain_id: int
    keys: dict[str, str]
    process: "subprocess.Popen[str]"

    def request(self, method: str, *parameters: Any) -> Any:
        """One request over HTTP."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        answer = httpx.post(self.url, json=body, timeout=120).json()
        assert "error" not in answer, answer
        return answer["result"]


@contextmanager
def development_process(*arguments: str) -> Iterator[Development]:
    """Run the command until the context ends; it is interrupted as with Ctrl-C and must then end in order."""
    command = [sys.executable, "-m", "koinon.cli.main", "node", "start", "--dev", "--rpc-port", "0", "--json"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("}"):
                break
        facts = json.loads("".join(lines))
        keys = {account["address"]: account["key"] for account in facts["accounts"]}
        yield Development(facts["rpc"], facts["websocket"], facts["chain_id"], keys, process)
        process.send_signal(2)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
