"""Ethereum's official state tests (GeneralStateTests), fork Cancun: ``python -m koinon.ledger.evm.statetest PATH``."""
