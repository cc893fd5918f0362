"""Validators whose addresses stand nowhere in public find one another by what each has sealed to the others."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from eth_account.signers.local import LocalAccount
from ledger_network import Keys, final_place, make_genesis, sign
from msgspec.structs import replace

from koinon.crypto.hpke import HpkeKey
from koinon.kernel.codec import encode
from koinon.kernel.ids import NodeId
from koinon.kernel.quantities import UnixSeconds
from koinon.ledger.validator import Validator, ValidatorConfig
from koinon.net.hidden import hide, reveal
from koinon.net.records import RecordTable, sign_record
from koinon.net.transport import Transport
from koinon.wire.discovery import Endpoint, Find, NodeClaim

STRANGER = "0x" + "00" * 19 + "99"


async def test_hidden_validators_find_one_another(tmp_path: Path, rich: LocalAccount) -> None:
    members = [Keys.of(number) for number in range(4)]
    sealing = [HpkeKey.from_seed(bytes([number + 50]) * 32) for number in range(4)]
    now = UnixSeconds(int(time.time()))
    public = RecordTable()
    async with AsyncExitStack() as stack:
        genesis = make_genesis(4, rich)
        genesis = replace(genesis, validators=tuple(replace(one, host="", port=0) for one in genesis.validators))
        validators = []
        for number, keys in enumerate(members):
            transport = await stack.enter_async_context(Transport.open(keys.node))
            open_claim = NodeClaim(
                keys.node.node_id,
                keys.account.address,
                "127.0.0.1",
                transport.endpoint.port,
                ("validator",),
                sealing[number].public_key,
                1,
                UnixSeconds(now + 3600),
            )
            claim = hide(open_claim, "127.0.0.1", transport.endpoint.port, [key.public_key for key in sealing])
            public.add(sign_record(keys.node, keys.account, claim), now)

            async def find(node_id: NodeId, own: HpkeKey = sealing[number]) -> Endpoint:
                (record,) = public.find(Find(node_id), now)
                return reveal(record, own)

            opening = Validator.open(
                ValidatorConfig(rpc_port=None),
                *(keys.bls, transport, keys.node.node_id, tmp_path / str(number), genesis),
                find=find,
            )
            validators.append(await stack.enter_async_context(opening))
        assert not [record for record in public.find(Find(), now) if b"127.0.0.1" in encode(record)]
        async with asyncio.timeout(60):
            sent = validators[0].submit(sign(rich, 0, STRANGER, value=1))
            for validator in validators:
                await final_place(validator, sent.hash)
