"""The profiles: ranks in order, a next step for each way in which a session fails, and how they are shown."""

import subprocess
import sys
from itertools import pairwise

import pytest

from floatip import providers
from floatip.core.bgp.notification import Notification
from floatip.core.bgp.trouble import Trouble, said

PROFILES = [providers.linode(6), *providers.PROVIDERS.values()]


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_between_equal_communities_the_better_rank_has_the_better_path_or_origin(profile: providers.Provider) -> None:
    marks = [profile.marks[rank] for rank in sorted(profile.marks)]
    assert len(marks) == 5
    for worse, better in pairwise(marks):
        if worse.communities == better.communities:
            assert (better.path_length, better.origin) < (worse.path_length, worse.origin)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_each_way_to_fail_has_a_next_step(profile: providers.Provider) -> None:
    assert set(profile.hints) == set(Trouble) - {Trouble.OTHER}


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_a_collision_of_sessions_points_at_another_announcer_and_not_at_the_peers_operator(
    profile: providers.Provider,
) -> None:
    assert "another announcer on this machine" in profile.hints[said(Notification(6, 7))]


def test_a_close_right_after_our_open_on_linode_names_the_share_and_the_data_centre() -> None:
    hint = providers.linode(6).hints[Trouble.OPEN_REJECTED]
    assert "no IP share is registered" in hint
    assert "floatip share" in hint
    assert "dcid 6" in hint


def test_the_command_shows_profiles_ranks_sources_and_regions() -> None:
    command = [sys.executable, "-m", "floatip", "providers"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for words in (
        "\nvultr\n",
        "  their AS        64515\n",
        "  peers           2600:3c0f:DCID:34::1, ",
        "  standby         path x1, origin incomplete, community 65000:2\n",
        "  standby         path x2, origin incomplete\n",
        "lelastic 0.2.0",
        "us-east       6     Newark\n",
    ):
        assert words in f"\n{shown}"
