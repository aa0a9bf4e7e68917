"""Certificates whose time is over within seconds: c2pa goes by the machine's clock, which no test can turn."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tooling.workspace.signing_keys import SigningKeys, init_keys

DAY, LEFT = timedelta(days=1), timedelta(seconds=3)


def expiring_keys(folder: Path) -> SigningKeys:
    """Keys that can sign for the next two seconds."""
    return init_keys(folder, is_replacing=True, begins=datetime.now(UTC) - DAY, validity=DAY + LEFT)


def outlive(keys: SigningKeys) -> None:
    """Waits until a certificate has expired."""
    time.sleep(max((keys.expires - datetime.now(UTC)).total_seconds() + 1, 0))
