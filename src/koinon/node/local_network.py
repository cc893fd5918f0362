"""A whole network on one machine: one home folder and one operating-system process for each organisation.

The folder of the network holds the homes and ``network.json`` (names and process numbers). Nothing else is shared:
nodes find each other by the identity cards that their operators exchanged, and talk over the transport.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from koinon.kernel.codec import encode
from koinon.kernel.effects import Rng
from koinon.kernel.errors import InvalidInput, KoinonError, Unavailable
from koinon.kernel.quantities import UnixSeconds
from koinon.net.listening import free_ports
from koinon.node.config import BootstrapNode, ChainConfig, NodeConfig, write_config
from koinon.node.create import create_node
from koinon.node.home import Home, Identity
from koinon.node.operator import Operator

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class Organisation:
    """A member of the network to be made."""

    name: str
    roles: tuple[str, ...]


DEMONSTRATION: Final = (
    *(Organisation(f"hospital-{number}", ("validator", "data")) for number in (1, 2, 3)),
    Organisation("company", ("validator", "publisher")),
    *(Organisation(f"provider-{number}", ("compute", "evaluator", "service")) for number in range(1, 8)),
)
"""Three hospitals, one AI company, seven providers."""


@dataclass(frozen=True)
class OutsideChain:
    """An EVM chain that somebody else runs."""

    url: str
    chain_id: int


@dataclass(frozen=True)
class Network:
    """The folder of a network."""

    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "network.json"

    def home(self, name: str) -> Home:
        return Home(self.folder / name)

    def names(self) -> list[str]:
        """The organisations. Raises InvalidInput where there is no network."""
        return list(self._read()["organisations"])

    def roles(self, name: str) -> tuple[str, ...]:
        return tuple(self._read()["organisations"][name])

    def identity(self, name: str) -> Identity:
        return Identity.read(self.home(name).identity)

    def operator(self, name: str) -> Operator:
        """The operator's end of one organisation's control socket."""
        return Operator(self.home(name).control)

    def process(self, name: str) -> psutil.Process | None:
        """The organisation's process, or None where it does not run."""
        number = self._read()["processes"].get(name)
        if number is None:
            return None
        try:
            process = psutil.Process(number)
            ours = str(self.home(name).path) in process.cmdline()
            return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def _read(self) -> dict[str, Any]:
        try:
            table = json.loads(self.record.read_text("utf-8"))
            return dict(table)
        except OSError:
            raise InvalidInput(f"there is no network in {self.folder.name}; run: koinon network up") from None
        except ValueError:
            raise InvalidInput(f"{self.record.name} in {self.folder.name} is damaged; remove the folder") from None

    def _write(self, table: dict[str, Any]) -> None:
        temporary = self.record.with_suffix(".new")
        temporary.write_text(json.dumps(table, indent=2) + "\n", "utf-8")
        temporary.replace(self.record)

    def _note_process(self, name: str, number: int | None) -> None:
        table = self._read()
        table["processes"][name] = number
        self._write(table)

    # ---------------------------------------------------------------------------------------------------- making

    def create(
        self, organisations: Iterable[Organisation], rng: Rng, *, outside: OutsideChain | None, allow_faults: bool
    ) -> None:
        """Make every home; with our own chain, its genesis from the validators' identity cards.

        Raises:
            InvalidInput: there is a network in the folder already.
        """
        if self.record.exists():
            raise InvalidInput(f"there is a network in {self.folder.name} already; use it, or choose another folder")
        members = tuple(organisations)
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = iter(free_ports(3 * len(members)))
        configs: dict[str, NodeConfig] = {}
        identities: dict[str, Identity] = {}
        for member in members:
            roles = tuple(role for role in member.roles if outside is None or role != "validator")
            config = NodeConfig(
                name=member.name,
                roles=roles,
                host=LOOPBACK,
                port=next(ports),
                rpc_port=next(ports),
                service_port=next(ports),
                operator=member.name,
                bootstrap=(),
                chain=ChainConfig((), 0, ()),
                allow_faults=allow_faults,
                monitor_port=0,
            )
            configs[member.name] = config
            identities[member.name] = create_node(self.home(member.name), config, rng)
        # The hospitals and the company keep the directory; on our own chain they are the validators too.
        keepers = [member.name for member in members if "data" in member.roles or "publisher" in member.roles]
        bootstrap = tuple(
            BootstrapNode(identities[name].node_id, configs[name].host, configs[name].port) for name in keepers
        )
        if outside is None:
            from koinon.node.genesis import local_genesis

            validators = [identities[member.name] for member in members if "validator" in member.roles]
            accounts = [identity.account for identity in identities.values()]
            genesis = local_genesis(validators, accounts, UnixSeconds(int(time.time())))
            chain_id = int(genesis.chain_id)
            rpc = tuple(f"http://{LOOPBACK}:{configs[identity.name].rpc_port}" for identity in validators)
            encoded = encode(genesis)
            for member in members:
                self.home(member.name).genesis.write_bytes(encoded)
        else:
            chain_id, rpc = outside.chain_id, (outside.url,)
        for position, member in enumerate(members):
            # Everybody asks another validator first, so that the load is shared.
            turned = rpc[position % len(rpc) :] + rpc[: position % len(rpc)]
            config = configs[member.name]
            own = f"http://{LOOPBACK}:{config.rpc_port}"
            urls = (own, *(url for url in turned if url != own)) if own in turned else turned
            write_config(
                self.home(member.name).config,
                NodeConfig(
                    **{**config.__dict__, "bootstrap": bootstrap, "chain": ChainConfig(urls, int(chain_id), ())}
                ),
            )
        self._write({"organisations": {m.name: list(configs[m.name].roles) for m in members}, "processes": {}})

    # --------------------------------------------------------------------------------------------------- running

    def start_one(self, name: str, extra: tuple[str, ...] = ()) -> None:
        """Start one organisation's process, detached. Raises InvalidInput where it runs already."""
        if self.process(name) is not None:
            raise InvalidInput(f"{name} is running already")
        home = self.home(name)
        with home.journal.open("ab") as journal:
            process = subprocess.Popen(
                [sys.executable, "-m", "koinon.cli.main", "node", "start", "--home", str(home.path), *extra],
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                start_new_session=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        self._note_process(name, process.pid)

    async def start(self, names: Iterable[str] | None = None) -> None:
        """Start all (or these) and wait until each answers its operator.

        Raises:
            Unavailable: one died or did not answer in time; its last journal line is in the sentence.
        """
        chosen = list(names or self.names())
        validating = [name for name in chosen if "validator" in self.roles(name)]
        # The chain first: a node that works with contracts checks them on it before it answers.
        for phase in (validating, [name for name in chosen if name not in validating]):
            for name in phase:
                if self.process(name) is None:
                    self.start_one(name)
            await asyncio.gather(*(self.wait_ready(name) for name in phase))

    async def wait_ready(self, name: str) -> None:
        """Return when the organisation's node answers. Raises Unavailable as ``start`` does."""
        loop = asyncio.get_running_loop()
        until = loop.time() + START_SECONDS
        while True:
            try:
                await self.operator(name).status()
                return
            except Unavailable:
                if self.process(name) is None:
                    raise Unavailable(f"{name} stopped while starting: {self._last_words(name)}") from None
                if loop.time() > until:
                    raise Unavailable(
                        f"{name} did not answer within {START_SECONDS:.0f} s: {self._last_words(name)}"
                    ) from None
            await asyncio.sleep(0.05)

    def _last_words(self, name: str) -> str:
        try:
            lines = self.home(name).journal.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:300] if lines else "its journal is empty"

    def kill(self, name: str) -> None:
        """``kill -9`` of the organisation's process, as a power cut would; its children go with it."""
        process = self.process(name)
        if process is None:
            raise InvalidInput(f"{name} is not running")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)
        self._note_process(name, None)

    async def stop(self) -> None:
        """Stop every process in order; what does not stop in time is killed."""
        running = {name: process for name in self.names() if (process := self.process(name)) is not None}

        async def ask(name: str) -> None:
            try:
                await self.operator(name).stop()
            except KoinonError:
                running[name].send_signal(signal.SIGTERM)

        await asyncio.gather(*(ask(name) for name in running))
        _, alive = await asyncio.to_thread(psutil.wait_procs, list(running.values()), STOP_SECONDS)
        for process in alive:
            os.killpg(process.pid, signal.SIGKILL)
        table = self._read()
        table["processes"] = {}
        self._write(table)
