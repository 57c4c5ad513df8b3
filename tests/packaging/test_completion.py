"""What TAB offers in bash, zsh and fish, driven in the real shells."""

import os
import pty
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from floatip import cli  # noqa: F401 (it fills the table)
from floatip.commands import COMMANDS
from floatip.lab.namespaces import find_program

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0
# What zsh adds as a match goes to a file too; completion functions call compadd also to compute (-O, -A, -D).
ZSHRC = """
fpath=({directory} $fpath)
autoload -Uz compinit && compinit -u -D
compadd() {{
	local -a found
	[[ " $* " == *\\ -[a-zA-Z]#[OAD]\\ * ]] || {{ builtin compadd -A found "$@"; print -rl -- $found >>{offered} }}
	builtin compadd "$@"
}}
finish() {{ print -r -- END >>{offered}; exit }}
setopt extendedglob
zle -N finish
bindkey '^I' complete-word
bindkey '^X' finish
print -r -- READY >>{offered}
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("completion")
    (directory / "mine.toml").touch()
    files = {"bash": directory / "floatip", "zsh": directory / "_floatip", "fish": directory / "floatip.fish"}
    for shell, file in files.items():
        command = [sys.executable, "-BI", str(ROOT / "packaging/completion.py"), str(ROOT / "src"), shell]
        file.write_bytes(subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=True).stdout)
    return files


def bash(script: Path, typed: str) -> set[str]:
    words = typed.split(" ")
    # Where the function offers nothing, `complete -o default` has bash offer files.
    tab = f"COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _floatip"
    files = "complete -p floatip | grep -q -e '-o default' && COMPREPLY=($(compgen -f -- ${COMP_WORDS[COMP_CWORD]}))"
    tab += f"; [ ${{#COMPREPLY[@]}} -gt 0 ] || {{ {files}; }}"
    return told("bash", "--norc", "-c", f"source {script}; {tab}; printf '%s\\n' ${{COMPREPLY[@]}}", cwd=script.parent)


def fish(script: Path, typed: str) -> set[str]:
    find_program("fish", "fish")
    lines = told("fish", "--no-config", "-c", f"source {script}; complete -C {shlex.quote(typed)}", cwd=script.parent)
    return {line.split("\t")[0] for line in lines}


def zsh(script: Path, typed: str) -> set[str]:
    directory = script.parent / f"zsh-{abs(hash(typed))}"
    directory.mkdir()
    offered = directory / "offered"
    (directory / ".zshrc").write_text(ZSHRC.format(directory=script.parent, offered=offered))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(script.parent)
        program = find_program("zsh", "zsh")
        os.execve(program, [program, "-d", "-i"], {"ZDOTDIR": str(directory), "TERM": "xterm", "PATH": "/usr/bin:/bin"})
    try:
        wait_for_line(offered, "READY", terminal)
        os.write(terminal, f"{typed}\t\x18".encode())
        lines = wait_for_line(offered, "END", terminal)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return set(lines) - {"READY", "END", ""}


def wait_for_line(file: Path, line: str, terminal: int) -> list[str]:
    """The lines of the file, once this one is there. Reads the terminal meanwhile, or zsh could not go on."""
    os.set_blocking(terminal, False)
    shown = b""
    deadline = time.monotonic() + TIMEOUT
    while True:
        with suppress(OSError):
            shown += os.read(terminal, 65536)
        lines = file.read_text().splitlines() if file.exists() else []
        if line in lines:
            return lines
        assert time.monotonic() < deadline, f"zsh did not say {line}: {shown.decode(errors='replace')}"
        time.sleep(0.01)


def told(*command: str, cwd: Path) -> set[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return set(done.stdout.split("\n")) - {""}


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("floatip dra", {"drain"}),
        ("floatip drain --wi", {"--withdraw"}),
        ("floatip status --w", {"--watch"}),
        ("floatip observe 192.0.2.1 --request ", {"http", "tcp", "none"}),
        ("floatip check min", {"mine.toml"}),
        ("floatip init --file min", {"mine.toml"}),
        ("floatip lab crash-s", {"crash-settled"}),
        ("floatip lelastic -dc", {"-dcid"}),
    ],
)
def test_tab_completes(scripts: dict[str, Path], shell: str, typed: str, offered: set[str]) -> None:
    found = SHELLS[shell](scripts[shell], typed)
    assert offered <= found
    # fish also offers words that contain the letters elsewhere.
    assert {word for word in found if word.startswith(typed.rpartition(" ")[2])} == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_offers_every_command_and_each_of_its_options(scripts: dict[str, Path], shell: str) -> None:
    complete, script = SHELLS[shell], scripts[shell]
    assert complete(script, "floatip ") >= set(COMMANDS)
    for name in ("status", "adopt", "lab"):
        names = {name for option in COMMANDS[name].options for name in option.names if name.startswith("--")}
        assert complete(script, f"floatip {name} --") >= names | {"--help"}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_reads_the_completion_without_a_complaint(scripts: dict[str, Path], shell: str) -> None:
    assert not told(shell, "-n", str(scripts[shell]), cwd=ROOT)


def test_zsh_and_fish_complete_the_flags_of_floatip_lelastic(scripts: dict[str, Path]) -> None:
    for shell in ("zsh", "fish"):
        assert "-secondary" in SHELLS[shell](scripts[shell], "floatip-lelastic -s")
