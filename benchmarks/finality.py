"""Four validators in four processes: time to finality, alone and under load, and what load and idling cost.

    python benchmarks/finality.py --json                    on loopback
    python benchmarks/finality.py --rtt 50 --json           on hosts of their own with 50 ms between them; needs root

Time to finality runs from handing a transaction to one validator until a validator holds it as final. The load is plain
transfers from many accounts, offered at a fixed rate to all four in turn. Every figure is the median of the repeats.
What others do on the machine at the same time is in every time; processor time is less sensitive to it.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from koinon.crypto.bls import BlsKey
from koinon.crypto.hash import keccak256
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.codec import decode, encode
from koinon.kernel.ids import Address
from koinon.kernel.quantities import ChainId, Gas, UnixSeconds, Wei
from koinon.ledger import rlp
from koinon.ledger.genesis import Genesis, GenesisValidator, Parameters, funded
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.listening import free_ports
from koinon.net.transport import Transport

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "ledger"))
from ledger_namespaces import Weather, address_of, open_lab  # the lab is shared with the tests

VALIDATORS: Final = 4
CHAIN_ID: Final = ChainId(31337)
SENDERS: Final = 64
STRANGER: Final = Address(bytes(19) + b"\x99")
FEE: Final = 10**12
TICK_SECONDS: Final = 0.02
WARMING_SECONDS: Final = 2.0
SETTLING_SECONDS: Final = 3.0


def account(number: int) -> AccountKey:
    return AccountKey.from_secret((number + 1).to_bytes(32, "big"))


def transfer(key: AccountKey, nonce: int) -> bytes:
    """A signed type-2 transfer of one wei."""
    fields: list[Any] = [CHAIN_ID, nonce, 0, FEE, 21_000, STRANGER, 1, b"", []]
    signature = key.sign_digest(keccak256(b"\x02" + rlp.encode(fields)))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return b"\x02" + rlp.encode([*fields, signature[64] - 27, r, s])


def keys(number: int) -> tuple[NodeKey, BlsKey]:
    seed = bytes([number + 1]) * 32
    return NodeKey.from_seed(seed), BlsKey.from_seed(seed)


def genesis(places: list[tuple[str, int]], accounts: int = SENDERS) -> Genesis:
    members = [keys(number) for number in range(VALIDATORS)]
    return Genesis(
        chain_id=CHAIN_ID,
        timestamp=UnixSeconds(int(time.time())),
        validators=tuple(
            GenesisValidator(node.node_id, account(n).address, bls.public_key, bls.prove_possession(), *places[n])
            for n, (node, bls) in enumerate(members)
        ),
        accounts=tuple(funded(account(number).address, Wei(10**24)) for number in range(accounts)),
        # Twice what a block can be filled with in time: with fuller blocks the base fee would grow beyond every bound.
        parameters=Parameters(gas_limit=Gas(400_000_000)),
    )


async def validate(number: int, folder: Path, rpc_port: int) -> None:
    """What each child process does."""
    node, bls = keys(number)
    first = decode(Genesis, await asyncio.to_thread((folder / "genesis").read_bytes))
    member = first.validators[number]
    config = ValidatorConfig(rpc_port=rpc_port)
    async with (
        Transport.open(node, member.host, member.port) as transport,
        Validator.open(config, bls, transport, node.node_id, folder / str(number), first),
    ):
        print("ready", flush=True)
        await asyncio.Event().wait()


def processor_seconds(processes: list[psutil.Process]) -> float:
    """What processes and those that they started have taken of a processor since they began."""
    everybody = [one for process in processes for one in (process, *process.children(recursive=True))]
    return sum(sum(one.cpu_times()[:2]) for one in everybody)


def start_children(
    stack: ExitStack, folder: Path, first: Genesis, rpc_ports: list[int], prefixes: list[tuple[str, ...]]
) -> list[psutil.Process]:
    """The validators, each in a process of its own that ends with ``stack``; they answer when this returns."""
    (folder / "genesis").write_bytes(encode(first))
    children = []
    for number in range(VALIDATORS):
        words = (__file__, "--child", str(number), "--folder", str(folder), "--port", str(rpc_ports[number]))
        child = stack.enter_context(
            subprocess.Popen((*prefixes[number], sys.executable, *words), stdout=subprocess.PIPE)
        )
        stack.callback(child.kill)
        children.append(child)
    for child in children:
        assert child.stdout is not None
        if child.stdout.readline() != b"ready\n":
            raise SystemExit("a validator did not start; its words are above")
    return [psutil.Process(child.pid) for child in children]


class Rpc:
    """One kept-open connection to a validator's RPC."""

    def __init__(self, make: Callable[[], socket.socket], port: int) -> None:
        self._make = make
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def post(self, body: object) -> Any:
        async with self._turn:
            if self._streams is None:
                plain = self._make()
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plain.setblocking(False)
                await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self._port))
                self._streams = await asyncio.open_connection(sock=plain, limit=1 << 24)
            reader, writer = self._streams
            data = json.dumps(body).encode()
            head = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            length = int(next(line for line in lines if line.startswith(b"content-length:")).split(b":")[1])
            return json.loads(await reader.readexactly(length))

    async def ask(self, method: str, *parameters: Any) -> Any:
        answer = await self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return answer["result"]

    async def send(self, raws: list[bytes]) -> None:
        """Hand transactions over in one batch; says so if one is not taken."""
        answers = await self.post(
            [
                {"jsonrpc": "2.0", "id": n, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]}
                for n, raw in enumerate(raws)
            ]
        )
        refused = [answer["error"]["message"] for answer in answers if "error" in answer]
        if refused:
            raise RuntimeError(f"{len(refused)} of {len(raws)} were refused: {refused[0]}")


@dataclass
class Bench:
    """The running network and who uses it.

    Attributes:
        feeds: for sending; one to each validator.
        watch: for looking at the first validator.
    """

    feeds: list[Rpc]
    watch: Rpc
    processes: list[psutil.Process]
    nonces: list[int] = field(default_factory=lambda: [0] * SENDERS)

    def next_transfer(self, sender: int) -> bytes:
        self.nonces[sender] += 1
        return transfer(account(sender), self.nonces[sender] - 1)

    def cpu(self) -> float:
        return processor_seconds(self.processes)

    async def lone(self, count: int) -> dict[str, float]:
        """One transaction at a time."""
        times = []
        before = self.cpu()
        for number in range(count):
            raw = self.next_transfer(0)
            feed = self.feeds[number % VALIDATORS]
            begin = time.perf_counter()
            height = int(await feed.ask("eth_blockNumber"), 16)
            name = await feed.ask("eth_sendRawTransaction", "0x" + raw.hex())
            while await feed.ask("eth_getTransactionReceipt", name) is None:
                height = int(await feed.ask("koinon_waitForBlock", hex(height + 1), 30), 16)
            times.append(time.perf_counter() - begin)
        cost = (self.cpu() - before) / count
        return {
            "lone_finality_p50_ms": statistics.median(times) * 1e3,
            "lone_cpu_ms_all_nodes": cost * 1e3,
        }

    async def idle(self, seconds: float) -> dict[str, float]:
        before, begin = self.cpu(), time.perf_counter()
        await asyncio.sleep(seconds)
        share = (self.cpu() - before) / (time.perf_counter() - begin)
        return {"idle_percent_of_one_core_all_nodes": share * 100}

    async def load(self, rate: int, seconds: float) -> dict[str, float]:
        """Offer ``rate`` transfers a second, whether or not they are taken up; look at what became final when."""
        total = int(rate * (seconds + WARMING_SECONDS))
        raws = [self.next_transfer(number % SENDERS) for number in range(total)]
        names = ["0x" + keccak256(raw).hex() for raw in raws]
        sent: dict[str, float] = {}
        height = int(await self.watch.ask("eth_blockNumber"), 16)
        before, begin = self.cpu(), time.perf_counter()

        async def offer(number: int) -> None:
            """Every fourth transfer, to one validator, when its time has come."""
            mine = range(number, total, VALIDATORS)
            place = 0
            while place < len(mine):
                now = time.perf_counter()
                due = min(len(mine), int((now - begin) * rate / VALIDATORS) + 1)
                batch = [mine[at] for at in range(place, min(due, place + 100))]
                if not batch:
                    await asyncio.sleep(TICK_SECONDS)
                    continue
                # What is late because this process or the validator is, counts from when it was due.
                sent.update({names[at]: begin + at / rate for at in batch})
                await self.feeds[number].send([raws[at] for at in batch])
                place += len(batch)
                await asyncio.sleep(TICK_SECONDS)

        offering = asyncio.gather(*(offer(number) for number in range(VALIDATORS)))
        late: dict[str, float] = {}
        blocks = 0
        while len(late) < total:
            newest = int(await self.watch.ask("koinon_waitForBlock", hex(height + 1), 30), 16)
            now = time.perf_counter()
            for number in range(height + 1, newest + 1):
                block = await self.watch.ask("eth_getBlockByNumber", hex(number), False)
                late.update({name: now - sent[name] for name in block["transactions"] if name in sent})
            blocks += newest - height
            height = newest
            if offering.done():
                offering.result()
        spent = time.perf_counter() - begin
        await offering
        counted = sorted(late[name] for name in names[int(rate * WARMING_SECONDS) :])
        return {
            "loaded_finality_p50_ms": statistics.median(counted) * 1e3,
            "loaded_finality_p99_ms": counted[int(len(counted) * 0.99) - 1] * 1e3,
            "finalised_per_second": total / spent,
            "transactions_per_block": total / max(1, blocks),
            "cpu_ms_per_transaction_all_nodes": (self.cpu() - before) / total * 1e3,
        }


async def measure(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    await bench.feeds[0].ask("eth_sendRawTransaction", "0x" + bench.next_transfer(0).hex())
    await bench.watch.ask("koinon_waitForBlock", "0x1", 60)
    runs = []
    for _ in range(options.repeats):
        run = await bench.lone(options.count)
        run |= await bench.load(options.rate, options.seconds)
        await asyncio.sleep(SETTLING_SECONDS)
        run |= await bench.idle(options.seconds)
        runs.append(run)
        print(json.dumps({name: round(value, 1) for name, value in run.items()}), file=sys.stderr)
    medians = {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}
    resident = max(process.memory_info().rss for process in bench.processes) / 2**20
    return {
        "rtt_ms": options.rtt,
        "offered_per_second": options.rate,
        "repeats": options.repeats,
        "load_average": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
        **medians,
        "resident_mib_largest": round(resident, 1),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.rtt:
            weather = Weather(delay=options.rtt / 2000)
            lab = stack.enter_context(open_lab(VALIDATORS, weather, 1))
            places = [(address_of(number), 7300) for number in range(VALIDATORS)]
            rpc_ports = [8545] * VALIDATORS
            prefixes = [lab.command(number) for number in range(VALIDATORS)]
            makers: list[Callable[[], socket.socket]] = [lambda n=n: lab.socket(n) for n in range(VALIDATORS)]  # type: ignore[misc]
        else:
            ports = free_ports(2 * VALIDATORS)
            places = [("127.0.0.1", port) for port in ports[:VALIDATORS]]
            rpc_ports = ports[VALIDATORS:]
            prefixes = [()] * VALIDATORS
            makers = [socket.socket] * VALIDATORS
        processes = start_children(stack, folder, genesis(places), rpc_ports, prefixes)
        feeds = [Rpc(maker, port) for maker, port in zip(makers, rpc_ports, strict=True)]
        bench = Bench(feeds, Rpc(makers[0], rpc_ports[0]), processes)
        return asyncio.run(measure(bench, options))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rtt", type=float, default=0.0, help="milliseconds there and back between validators")
    parser.add_argument("--count", type=int, default=20, help="lone transactions in each repeat")
    parser.add_argument("--rate", type=int, default=500, help="transactions offered each second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load in each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        asyncio.run(validate(options.child, options.folder, options.port))
        return
    results = run(options)
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:45} {value}")


if __name__ == "__main__":
    main()
