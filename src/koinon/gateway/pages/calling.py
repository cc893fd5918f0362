"""Ways to call a service and to check it, ready to paste.

An endpoint's address is text that somebody else put on the chain, and people paste these lines into a shell. Only an
address of a plain form is written into them, and quoted even so.
"""

import re
import shlex
from collections.abc import Sequence
from typing import Final

from koinon.gateway.views.models import Call

PLAIN_ADDRESS: Final = re.compile(r"https?://[A-Za-z0-9.-]{1,120}(:[0-9]{1,5})?(/[A-Za-z0-9._~-]{1,40}){0,4}/?")
PLAIN_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9]|[.-](?=[a-z0-9])){2,63}")


def ways_to_call(name: str, urls: Sequence[str]) -> tuple[Call, ...]:
    """Commands for one name; those that need an endpoint only where one has a plain address."""
    if PLAIN_NAME.fullmatch(name) is None:
        return ()
    calls = [
        Call(
            title="With Koinon: pays, calls, keeps the receipt",
            language="sh",
            text=f"koinon call {name} --input rows.csv",
        )
    ]
    url = next((url.rstrip("/") for url in urls if PLAIN_ADDRESS.fullmatch(url)), None)
    if url is not None:
        body = '{"inputs":[{"name":"features","shape":[1,COLUMNS],"datatype":"FP32","data":[VALUES]}]}'
        calls.append(
            Call(
                title="With curl, pass and voucher in hand",
                language="sh",
                text=(
                    f"curl -s {shlex.quote(f'{url}/v2/models/{name}/infer')} \\\n"
                    "  -H 'content-type: application/json' \\\n"
                    "  -H 'Koinon-Pass: PASS' \\\n"
                    "  -H 'Koinon-Voucher: CHANNEL:TOTAL:SIGNATURE' \\\n"
                    f"  -d {shlex.quote(body)}"
                ),
            )
        )
        host = url.partition("://")[2]
        secure = ", ssl=True" if url.startswith("https://") else ""
        calls.append(
            Call(
                title="With tritonclient, unchanged",
                language="python",
                text=(
                    "import numpy as np\n"
                    "from tritonclient.http import InferenceServerClient, InferInput\n\n"
                    f"client = InferenceServerClient({host!r}{secure})\n"
                    'rows = np.loadtxt("rows.csv", delimiter=",", skiprows=1, dtype=np.float32, ndmin=2)\n'
                    'features = InferInput("features", list(rows.shape), "FP32")\n'
                    "features.set_data_from_numpy(rows)\n"
                    'headers = {"Koinon-Pass": PASS, "Koinon-Voucher": VOUCHER}\n'
                    f'print(client.infer({name!r}, [features], headers=headers).as_numpy("probability"))'
                ),
            )
        )
    calls.append(
        Call(
            title="Check all of it, offline",
            language="sh",
            text=f"koinon audit {name} -o bundle.zip\nkoinon verify bundle.zip",
        )
    )
    return tuple(calls)
