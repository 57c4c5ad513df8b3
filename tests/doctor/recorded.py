"""A machine as the doctor reads it, from texts that were recorded."""

from collections.abc import Mapping, Sequence

from floatip.doctor.host import Missing, Unseen


class Recorded:
    """The texts of its files, and what its programs printed."""

    def __init__(
        self,
        files: Mapping[str, str] | None = None,
        outputs: Mapping[Sequence[str], str] | None = None,
        *,
        links: Mapping[str, str] | None = None,
        nft_tables: Sequence[tuple[str, str]] | None = None,
        is_root: bool = True,
    ) -> None:
        self.tables = nft_tables
        self.files = dict(files or {})
        self.outputs = {tuple(command): output for command, output in (outputs or {}).items()}
        self.links = dict(links or {})
        self.is_root = is_root

    def text(self, path: str) -> str:
        if path not in self.files:
            raise Missing(f"{path}: no such file or directory")
        return self.files[path]

    def names(self, directory: str) -> list[str]:
        below = f"{directory.rstrip('/')}/"
        found = {path.removeprefix(below).partition("/")[0] for path in self.files if path.startswith(below)}
        if not found:
            raise Missing(f"{directory}: no such file or directory")
        return sorted(found)

    def link(self, path: str) -> str:
        if path not in self.links:
            raise Missing(f"{path}: no such file or directory")
        return self.links[path]

    def run(self, *command: str) -> str:
        if command not in self.outputs:
            raise Missing(f"{command[0]} is not installed")
        return self.outputs[command]

    def nft_tables(self) -> list[tuple[str, str]]:
        if self.tables is None:
            raise Unseen("the kernel does not name the tables of nftables")
        return list(self.tables)
