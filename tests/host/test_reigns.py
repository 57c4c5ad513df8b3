import asyncio
import json
from pathlib import Path

import pytest

from floatip.core.events import Failing
from floatip.core.instance import Instance
from floatip.host import reigns
from floatip.host.disk import BOOT_ID, Memory
from tests.core.host import WEB
from tests.host.reports import PromptDisk, Reports


def test_what_one_process_noted_the_next_recalls(tmp_path: Path, reports: Reports) -> None:
    async def story() -> None:
        instance = Instance(WEB, 0)
        instance.remember([1.5, 2.5])
        reigns.note(Memory(PromptDisk(reports), tmp_path / "reigns.json"), {"VI_1": instance})
        assert reigns.recall(Memory(PromptDisk(reports), tmp_path / "reigns.json")) == {"VI_1": (1.5, 2.5)}

    asyncio.run(story())
    assert reports.events == []


@pytest.mark.parametrize("nonsense", [7, [1], {"VI_1": 7}, {"VI_1": ["x"]}])
def test_nonsense_counts_for_nothing_and_is_told(nonsense: object, tmp_path: Path, reports: Reports) -> None:
    file = tmp_path / "reigns.json"
    file.write_text(json.dumps({"boot": BOOT_ID.read_text().strip(), "reigns": nonsense}))

    async def story() -> None:
        assert reigns.recall(Memory(PromptDisk(reports), file)) == {}

    asyncio.run(story())
    assert "not understood, so ignored" in next(iter(reports.of(Failing)[0].failures)).reason
