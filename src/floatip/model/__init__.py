"""What the daemon runs from, whichever file it was read from: plain data with its defaults."""

from floatip.model.checks import Check, File, Kind, Process, Script, Tcp
from floatip.model.instances import instance
from floatip.model.model import LocalKeepalived, Model, Notify
from floatip.model.network import Network, RankMarks, network

__all__ = [
    "Check",
    "File",
    "Kind",
    "LocalKeepalived",
    "Model",
    "Network",
    "Notify",
    "Process",
    "RankMarks",
    "Script",
    "Tcp",
    "instance",
    "network",
]
