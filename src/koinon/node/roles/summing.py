"""A data owner's part in a study on owners' sums: one row of sums over its rows, shared in their place."""

import asyncio
from typing import TYPE_CHECKING

from koinon.jobs import owner
from koinon.jobs.inputs import all_columns, parameters
from koinon.jobs.sessions import study_key
from koinon.jobs.study import StudyFile
from koinon.kernel.codec import decode
from koinon.node.context import Context
from koinon.wire.committee import Input

if TYPE_CHECKING:
    from koinon.data.table import FloatArray, Table


def sums_over(study: StudyFile, table: "Table") -> "FloatArray":
    """What this owner would share. Raises InvalidInput for rows that do not fit or are too few."""
    from koinon.privacy.programs import owner_sums, registry
    from koinon.privacy.programs.offer import Parameters, decode_settings

    # How many rows the others have makes no difference to what this owner adds up.
    given = decode(Parameters, parameters(study, (table.rows,) * len(study.owners)))
    found = registry.offer(study.algorithm)
    return owner_sums.local_sums(found, given, decode_settings(found, study.settings), table.matrix)


async def shared_sums(
    context: Context, study: StudyFile, number: int, deal: owner.DealShares, table: "Table"
) -> list[Input]:
    """Each member's shares of this owner's sums, with the manifest that says over how many rows of which data set."""
    from koinon.privacy.learn.moments import SUM_BITS
    from koinon.privacy.sharing import Dealing, deal_sums

    dealing = Dealing(study_key(study, number), deal.attempt, deal.dataset_hash)
    sums = await asyncio.to_thread(sums_over, study, table)
    manifest, packages = await asyncio.to_thread(
        deal_sums, sums, table.rows, all_columns(study), SUM_BITS, dealing, context.keys.node, context.rng
    )
    return [Input(manifest, package) for package in packages]
