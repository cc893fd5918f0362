"""A node's home folder: configuration, keys, databases. One organisation, one folder, one process.

node.toml        what the operator decides (``node.config``)
identity.json    public: name, node id, account, keys that others need, address
keys             secret, readable by the operator only
policy.toml      a data owner's own rules (``jobs.policy``)
datasets/        a data owner's rows
disputes/        a committee member's evidence, and what it may open to a judge
shared-models/   this node's shares of models that four nodes keep
encrypted-models/ the operator's models that answer encrypted rows
database/ blobs/ the node's own memory
control.sock     where the operator's commands arrive
node.log         the journal
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from koinon.crypto.hpke import HpkeKey
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.codec import Record, decode, encode
from koinon.kernel.errors import InvalidInput, MalformedMessage
from koinon.kernel.ids import Address, NodeId, parse_address, parse_node_id, to_hex


class Secrets(Record, frozen=True):
    """The node's secrets as stored; never shown, never sent."""

    node_seed: bytes
    account_secret: bytes
    sealing_seed: bytes
    validator_seed: bytes

    def __repr__(self) -> str:
        return "Secrets(…)"


@dataclass(frozen=True)
class Identity:
    """What everybody may know of a node.

    ``validator_key`` and ``possession`` are empty where it does not validate.
    """

    name: str
    node_id: NodeId
    account: Address
    sealing_key: bytes
    host: str
    port: int
    validator_key: bytes
    possession: bytes

    def write(self, path: Path) -> None:
        path.write_text(
            json.dumps(
                {
                    "name": self.name,
                    "node": to_hex(self.node_id),
                    "account": to_hex(self.account),
                    "sealing_key": to_hex(self.sealing_key),
                    "host": self.host,
                    "port": self.port,
                    "validator_key": to_hex(self.validator_key),
                    "possession": to_hex(self.possession),
                },
                indent=2,
            )
            + "\n"
        )

    @classmethod
    def read(cls, path: Path) -> "Identity":
        """Read ``identity.json``. Raises InvalidInput where it is not one."""
        try:
            table = json.loads(path.read_text("utf-8"))
            return cls(
                name=str(table["name"]),
                node_id=parse_node_id(table["node"]),
                account=parse_address(table["account"]),
                sealing_key=bytes.fromhex(table["sealing_key"][2:]),
                host=str(table["host"]),
                port=int(table["port"]),
                validator_key=bytes.fromhex(table["validator_key"][2:]),
                possession=bytes.fromhex(table["possession"][2:]),
            )
        except OSError as problem:
            raise InvalidInput(f"cannot read {path.name} ({problem.strerror}); run: koinon node init") from None
        except (ValueError, KeyError, TypeError):
            raise InvalidInput(f"{path.name} is not an identity that koinon node init wrote") from None


@dataclass(frozen=True)
class Home:
    """Paths of one home folder."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "node.toml"

    @property
    def identity(self) -> Path:
        return self.path / "identity.json"

    @property
    def policy(self) -> Path:
        return self.path / "policy.toml"

    @property
    def datasets(self) -> Path:
        return self.path / "datasets"

    @property
    def disputes(self) -> Path:
        return self.path / "disputes"

    @property
    def shared_models(self) -> Path:
        return self.path / "shared-models"

    @property
    def encrypted_models(self) -> Path:
        return self.path / "encrypted-models"

    @property
    def database(self) -> Path:
        return self.path / "database"

    @property
    def blobs(self) -> Path:
        return self.path / "blobs"

    @property
    def control(self) -> Path:
        return self.path / "control.sock"

    @property
    def journal(self) -> Path:
        return self.path / "node.log"

    @property
    def genesis(self) -> Path:
        return self.path / "genesis"

    @property
    def _keys(self) -> Path:
        return self.path / "keys"

    def create(self) -> None:
        """Make the folder, closed to other users. Raises InvalidInput if a node lives there already."""
        if self._keys.exists():
            raise InvalidInput(f"a node lives in {self.path.name} already; choose another --home")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.datasets.mkdir(mode=0o700, exist_ok=True)

    def write_secrets(self, secrets: Secrets) -> None:
        """Write the keys once, readable by the operator only."""
        descriptor = os.open(self._keys, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(encode(secrets))
            file.flush()
            os.fsync(file.fileno())

    def secrets(self) -> Secrets:
        """Read the keys. Raises InvalidInput where there are none, they are damaged, or others may read them."""
        try:
            mode = self._keys.stat().st_mode
            data = self._keys.read_bytes()
        except OSError as problem:
            raise InvalidInput(f"no keys in {self.path.name} ({problem.strerror}); run: koinon node init") from None
        if mode & 0o077:
            raise InvalidInput(
                f"the keys in {self.path.name} are readable by other users; run: chmod 600 on the file keys"
            )
        try:
            return decode(Secrets, data)
        except MalformedMessage:
            raise InvalidInput(f"the keys in {self.path.name} are damaged; restore them from your backup") from None


@dataclass(frozen=True)
class NodeKeys:
    """The keys that every role may use."""

    node: NodeKey
    account: AccountKey
    sealing: HpkeKey

    @classmethod
    def from_secrets(cls, secrets: Secrets) -> "NodeKeys":
        return cls(
            NodeKey.from_seed(secrets.node_seed),
            AccountKey.from_secret(secrets.account_secret),
            HpkeKey.from_seed(secrets.sealing_seed),
        )
