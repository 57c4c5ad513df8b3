"""Remembers when the latest masters began, so that a restarted daemon knows which routes may still be around."""

from collections.abc import Mapping
from typing import Any

from floatip.core.instance import Instance
from floatip.host.disk import Memory


def recall(memory: Memory) -> dict[str, tuple[float, ...]]:
    def by_instance(state: dict[str, Any]) -> dict[str, tuple[float, ...]]:
        return {str(name): tuple(map(float, times)) for name, times in state["reigns"].items()}

    return memory.recall(by_instance) or {}


def note(memory: Memory, instances: Mapping[str, Instance]) -> None:
    memory.remember({"reigns": {name: instance.elector.reigns for name, instance in instances.items()}})
