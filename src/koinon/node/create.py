"""``koinon node init``: a new home folder with fresh keys."""

from koinon.crypto.hpke import HpkeKey
from koinon.crypto.signature import AccountKey, NodeKey
from koinon.kernel.effects import Rng
from koinon.node.config import NodeConfig, write_config
from koinon.node.home import Home, Identity, Secrets

DEFAULT_POLICY = """\
# Which studies this organisation's node signs without asking. It refuses every other, with the reason.
purposes = ["tumour risk"]       # the study's stated purpose must contain one of these phrases
publishers = []                  # accounts whose studies are considered; empty for any
minimum_parties = 3              # with fewer owners, one could subtract its own part from the result
allowed_programs = ["logistic-regression/1"]  # what may run on its rows; see: koinon study programs
allowed_functions = []           # hashes of functions that function/1 may run: koinon study equations shows them
allowed_engines = ["rep4"]       # how it may be computed, against whom: koinon study estimate; docs/threat-model.md
allowed_outputs = ["coefficients", "intercept", "worth"]  # what may leave
allowed_joins = ["agreed", "oblivious"]  # how people may be matched; "psi" shows the other owners who is in all data
minimum_group = 5                # least people behind any count or mean of a group that leaves
allow_exact_outputs = true       # whether an output without differential-privacy noise may leave
privacy_epsilon = 8.0            # what all noisy outputs from one data set may cost together, for ever
privacy_delta = 1e-6             # for this chance of more
minimum_owner_fee = "1"          # least pay for this organisation
maximum_bond = "100"             # most that it locks against not revealing its nonce
"""


def create_node(home: Home, config: NodeConfig, rng: Rng) -> Identity:
    """Make the folder, the keys, ``node.toml``, ``identity.json`` and, for a data owner, a policy to edit.

    Raises:
        InvalidInput: a node lives there already.
    """
    home.create()
    node = NodeKey.generate(rng)
    account = AccountKey.generate(rng)
    sealing = HpkeKey.generate(rng)
    validator_seed = rng.bytes(32) if "validator" in config.roles else b""
    validator_key, possession = b"", b""
    if validator_seed:
        from koinon.crypto.bls import BlsKey

        key = BlsKey.from_seed(validator_seed)
        validator_key, possession = key.public_key, key.prove_possession()
    home.write_secrets(Secrets(node.seed, account.secret, sealing.seed, validator_seed))
    identity = Identity(
        name=config.name,
        node_id=node.node_id,
        account=account.address,
        sealing_key=sealing.public_key,
        host=config.host,
        port=config.port,
        validator_key=validator_key,
        possession=possession,
    )
    identity.write(home.identity)
    write_config(home.config, config)
    if "data" in config.roles:
        home.policy.write_text(DEFAULT_POLICY, "utf-8")
    return identity
