"""The datagrams of the link: their bytes as documented, what is refused and why, later releases, and noise."""

import hmac
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floatip.core.link.wire import (
    BLOCK,
    HEADER,
    ID,
    LARGEST,
    NEVER,
    OTHER_FORMAT,
    OTHER_KEY,
    ROOM,
    TAG,
    Datagram,
    Heard,
    HelloFlag,
    InstanceFlag,
    InstanceState,
    Kind,
    NodeFlag,
    NodeState,
    Report,
    Role,
    check_block,
    heard_block,
    identity,
    instance_block,
    node_block,
    pack,
    parse,
    problem_block,
    report_block,
)
from floatip.core.malformed import Malformed
from floatip.core.problems import Severity
from floatip.core.state import CheckBrief, ProblemBrief

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "link.md"
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
ONE, TWO, THREE = identity("haproxy1"), identity("haproxy2"), identity("haproxy3")
HELLO = Datagram(ONE, 0x0123456789ABCDEF, 42, 100, HelloFlag(0), receiver=TWO)
WEB = InstanceState(
    identity("web"),
    Role.MASTER,
    3,
    InstanceFlag.READY | InstanceFlag.ACKNOWLEDGED | InstanceFlag.HEALTHY | InstanceFlag.HELD,
    reign=1_790_000_000_000,
    reason="haproxy2 hands over",
)
NODE = NodeState("haproxy1", "0.2.0", bytes.fromhex("a1a2a3a4a5a6a7a8"), 1, NodeFlag.SEASONED, 4, 4)
REPORT = Report(1_234_567_890, 0, 1, 3, 1)
CHECK = CheckBrief("haproxy", "down", "connection refused")
PROBLEM = ProblemBrief("drained", Severity.WARNING, "floatip", "this node is drained", "to end it: floatip undrain")
DOCUMENTED = replace(
    HELLO,
    your_boot=0xFEDCBA9876543210,
    your_sequence=1234,
    your_age=57,
    node=NODE,
    instances=(WEB,),
    heard=(Heard(TWO, 57), Heard(THREE, NEVER)),
    report=REPORT,
    checks=(CHECK,),
    problems=(PROBLEM,),
)
VECTOR = bytes.fromhex(
    "666c0100"
    "454d25f11aba1ad0de348551e707b081"
    "0123456789abcdef000000000000002a"
    "fedcba987654321000000000000004d2"
    "0000003900640000"
    "01002504040001a1a2a3a4a5a6a7a800000000000000000808686170726f78793105302e322e3000"
    "0200314b5e57f6eb2f42b902030000000001a0c4506c0000000000000000001b13686170726f7879322068616e6473206f76"
    "6572"
    "030018de348551e707b081000000390f1ea65807019766ffffffff"
    "06000e00000000499602d2000100030001"
    "04001c0207686170726f787912636f6e6e656374696f6e2072656675736564"
    "0500410107647261696e656407666c6f617469701474686973206e6f646520697320647261696e65641a746f20656e642069"
    "743a20666c6f6174697020756e647261696e"
    "16905f6aec1cbe45a56dace827dd3de9"
)
BLOCKS = (
    node_block(NODE),
    instance_block(WEB),
    heard_block(DOCUMENTED.heard),
    report_block(REPORT),
    check_block(CHECK),
    problem_block(PROBLEM),
)
FULL = replace(
    DOCUMENTED,
    heard=(),
    report=None,
    checks=(),
    problems=(),
    instances=tuple(replace(WEB, instance=identity(f"web{n}"), role=Role.BACKUP, reign=0) for n in range(20)),
)


def signed(body: bytes, key: bytes = KEY) -> bytes:
    """As the reference says it, without the code under test."""
    return body + hmac.new(key, body, "sha256").digest()[:16]


def block(kind: int, body: bytes) -> bytes:
    return BLOCK.pack(kind, len(body)) + body


def with_blocks(*blocks: bytes) -> bytes:
    """A hello with these blocks, made by hand."""
    return signed(b"".join((pack(HELLO, KEY)[:-TAG], *blocks)))


def altered(data: bytes, at: int, value: bytes) -> bytes:
    """Octets changed, signed again."""
    return signed(data[:at] + value + data[at + len(value) : -TAG])


def test_the_documented_datagram_is_made_and_read() -> None:
    assert pack(DOCUMENTED, KEY) == VECTOR
    assert parse(VECTOR, [KEY]) == DOCUMENTED
    assert signed(VECTOR[:-TAG]) == VECTOR


def test_the_reference_shows_the_datagram_of_this_test() -> None:
    lines = re.findall(r"^[0-9a-f]{4}  ((?: ?[0-9a-f]{2}){1,16})$", REFERENCE.read_text(), re.MULTILINE)
    assert bytes.fromhex("".join(lines)) == VECTOR


OCTETS, U16, U32 = st.integers(0, 2**8 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
IDS = st.binary(min_size=ID, max_size=ID)


def texts(longest: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" ")).filter(
        lambda text: len(text.encode()) <= longest
    )


NODES = st.builds(
    NodeState, texts(64), texts(64), IDS, U16, st.integers(0, 15).map(NodeFlag), OCTETS, OCTETS, U64, texts(160)
)
INSTANCES = st.builds(
    InstanceState, IDS, st.sampled_from(Role), OCTETS, st.integers(0, 31).map(InstanceFlag), U16, U64, IDS, texts(160)
)
REPORTS = st.builds(
    lambda number, part, more, checks, problems: Report(number, part, part + more, checks, problems),
    U64,
    st.integers(0, 127),
    st.integers(1, 128),
    U16,
    U16,
)
CHECKS = st.builds(CheckBrief, texts(64), st.sampled_from(["unknown", "up", "down"]), texts(160))
PROBLEMS = st.builds(ProblemBrief, texts(32), st.sampled_from(Severity), texts(64), texts(200), texts(200))
DATAGRAMS = st.builds(
    Datagram,
    IDS,
    U64,
    U64,
    st.integers(1, 65535),
    st.integers(0, 1).map(HelloFlag),
    U64,
    U64,
    U32,
    st.none() | NODES,
    st.lists(INSTANCES, max_size=3).map(tuple),
    st.lists(st.builds(Heard, IDS, U32), max_size=15).map(tuple),
    IDS,
)
REPORTED = st.builds(
    lambda hello, report, checks, problems: replace(hello, report=report, checks=checks, problems=problems),
    st.just(HELLO),
    st.none() | REPORTS,
    st.lists(CHECKS, max_size=2).map(tuple),
    st.lists(PROBLEMS, max_size=1).map(tuple),
)


@settings(deadline=None, max_examples=300)
@given(DATAGRAMS | REPORTED)
def test_parse_is_the_inverse_of_pack(datagram: Datagram) -> None:
    data = pack(datagram, KEY)
    assert len(data) <= LARGEST
    assert parse(data, [KEY]) == datagram


def test_blocks_that_were_made_before_come_after_those_of_the_datagram() -> None:
    bare = replace(HELLO, your_boot=0xFEDCBA9876543210, your_sequence=1234, your_age=57)
    assert pack(bare, KEY, BLOCKS) == VECTOR
    assert pack(replace(bare, node=NODE), KEY, BLOCKS[1:]) == VECTOR


# What does not fit


def test_a_figure_that_does_not_fit_is_the_nearest_one() -> None:
    large = InstanceState(WEB.instance, Role.MASTER, 1000, InstanceFlag(0), 70_000, 2**70)
    node = NodeState("a", "1", NODE.digest, 70_000, NodeFlag(0), 300, 300, 2**70)
    sent = replace(HELLO, interval=10**6, your_age=2**40, node=node, instances=(large,), heard=(Heard(TWO, 2**33),))
    read = parse(pack(sent, KEY), [KEY])
    assert (read.interval, read.your_age, read.heard) == (65535, NEVER, (Heard(TWO, NEVER),))
    assert read.instances == (replace(large, rank=255, preference=65535, reign=2**64 - 1),)
    assert read.node == replace(node, instances=65535, sessions_up=255, sessions=255, until=2**64 - 1)

    small = InstanceState(WEB.instance, Role.MASTER, -1, InstanceFlag(0), -1, -1)
    sent = replace(HELLO, interval=0, your_age=-1, instances=(small,), heard=(Heard(TWO, -1),))
    read = parse(pack(sent, KEY), [KEY])
    assert (read.interval, read.your_age, read.heard) == (1, 0, (Heard(TWO, 0),))
    assert read.instances == (replace(small, rank=0, preference=0, reign=0),)


def test_the_texts_of_a_report_are_cut() -> None:
    long = "x" * 500
    sent = replace(
        HELLO,
        report=replace(REPORT, checks=70_000, problems=70_000),
        checks=(CheckBrief(long, "up", long),),
        problems=(ProblemBrief(long, Severity.NOTE, long, long, long),),
    )
    read = parse(pack(sent, KEY), [KEY])
    assert read.report == replace(REPORT, checks=65535, problems=65535)
    assert read.checks == (CheckBrief(long[:64], "up", long[:160]),)
    assert read.problems == (ProblemBrief(long[:32], Severity.NOTE, long[:64], long[:200], long[:200]),)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x" * 500, "x" * 160),
        ("é" * 100, "é" * 80),
        ("x" + "é" * 100, "x" + "é" * 79),  # no half character
        ("\x1b[2Jgone\r\n", "\N{REPLACEMENT CHARACTER}[2Jgone" + "\N{REPLACEMENT CHARACTER}" * 2),
        ("a\u202eb\u2028c", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
        ("\udcff", "?"),
        ("", ""),
    ],
)
def test_a_text_is_cut_and_safe_on_a_terminal(text: str, read: str) -> None:
    (state,) = parse(pack(replace(HELLO, instances=(replace(WEB, reason=text),)), KEY), [KEY]).instances
    assert state.reason == read


def test_a_text_that_is_no_utf8_is_shown_as_far_as_it_is() -> None:
    body = bytearray(instance_block(replace(WEB, reason="ab")))
    body[-1] = 0xFF
    (state,) = parse(with_blocks(bytes(body)), [KEY]).instances
    assert state.reason == "a\N{REPLACEMENT CHARACTER}"


def test_more_nodes_than_fit_are_heard_as_far_as_there_is_room() -> None:
    heard = tuple(Heard(identity(str(n)), n) for n in range(1000))
    assert len(heard_block(heard)) <= ROOM < len(heard_block(heard)) + 12
    assert parse(pack(replace(HELLO, heard=heard), KEY), [KEY]).heard == heard[:93]


def test_a_block_for_which_there_is_no_room_is_left_out_and_the_hello_is_still_read() -> None:
    many = replace(FULL, instances=FULL.instances * 3)
    data = pack(many, KEY)
    read = parse(data, [KEY])
    assert LARGEST - len(instance_block(WEB)) < len(data) <= LARGEST
    assert read == replace(many, instances=many.instances[: len(read.instances)])
    last = InstanceState(THREE, Role.INIT, 0, InstanceFlag(0))  # smaller than the others: there may be room for it
    assert parse(pack(HELLO, KEY, [bytes(ROOM + 1), instance_block(last)]), [KEY]).instances == (last,)


# Other releases


def test_what_a_later_release_adds_is_skipped() -> None:
    more = bytes(range(40))
    node, web = node_block(NODE), instance_block(replace(WEB, epoch=7))
    data = with_blocks(
        block(0, b""),
        block(Kind.NODE, node[BLOCK.size :] + more),
        block(max(Kind) + 1, more),
        block(Kind.INSTANCE, web[BLOCK.size :] + more),
        block(255, bytes(300)),
        block(Kind.HEARD, heard_block(DOCUMENTED.heard)[BLOCK.size :] + more[:11]),
        *(block(each[0], each[BLOCK.size :] + more) for each in BLOCKS[3:]),
    )
    data = altered(data, 3, b"\xfe")  # flags
    data = altered(data, HEADER.size - 2, b"\xff\xff")  # reserved
    assert parse(data, [KEY]) == replace(
        HELLO,
        node=NODE,
        instances=(replace(WEB, epoch=7),),
        heard=DOCUMENTED.heard,
        report=REPORT,
        checks=(CHECK,),
        problems=(PROBLEM,),
    )


def test_a_release_without_reports_reads_everything_else() -> None:
    """It knows kinds 1 to 3, and skips the others by their length."""
    at, known, data = HEADER.size, VECTOR[: HEADER.size], VECTOR[:-TAG]
    while at < len(data):
        kind, length = BLOCK.unpack_from(data, at)
        end = at + BLOCK.size + length
        known += data[at:end] if kind <= 3 else b""
        at = end
    assert at == len(data)
    assert parse(signed(known), [KEY]) == replace(DOCUMENTED, report=None, checks=(), problems=())


def test_a_flag_or_a_code_of_a_later_release_does_not_make_its_node_unreadable() -> None:
    web = bytearray(instance_block(WEB))
    web[BLOCK.size + 8], web[BLOCK.size + 28] = 4, 0xC0 | InstanceFlag.HELD
    node = bytearray(node_block(NODE))
    node[BLOCK.size + 20] = 0xE0 | NodeFlag.PAUSED
    read = parse(with_blocks(bytes(web), bytes(node)), [KEY])
    assert read.instances == (replace(WEB, role=Role.INIT, flags=InstanceFlag.HELD),)
    assert read.node == replace(NODE, flags=NodeFlag.PAUSED)
    check, problem = bytearray(check_block(CHECK)), bytearray(problem_block(PROBLEM))
    check[BLOCK.size] = problem[BLOCK.size] = 3
    read = parse(with_blocks(bytes(check), bytes(problem)), [KEY])
    assert (read.checks, read.problems) == (
        (replace(CHECK, value="unknown"),),
        (replace(PROBLEM, severity=Severity.NOTE),),
    )


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_format_is_named_whatever_its_size_and_its_key(version: int) -> None:
    for data in (altered(VECTOR, 2, bytes((version,))), b"fl" + bytes((version,)) * 5000):
        with pytest.raises(Malformed, match=f"format {version}, not 1") as malformed:
            parse(data, [KEY])
        assert malformed.value.code == OTHER_FORMAT


# Keys


def test_a_datagram_is_believed_with_any_of_the_keys_and_no_other() -> None:
    for key in (KEY, OTHER):
        assert parse(pack(DOCUMENTED, key), [KEY, OTHER]) == DOCUMENTED
    for keys in ([OTHER], [KEY[:-1]], [KEY + b"\1"], []):
        with pytest.raises(Malformed, match="signed with another key") as malformed:
            parse(VECTOR, keys)
        assert malformed.value.code == OTHER_KEY


@pytest.mark.parametrize("datagram", [HELLO, DOCUMENTED, FULL], ids=["hello", "documented", "full"])
def test_no_flipped_bit_goes_unnoticed(datagram: Datagram) -> None:
    data = pack(datagram, KEY)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Malformed):
            parse(bytes(flipped), [KEY])


def test_who_has_no_key_learns_only_that_its_signature_is_wrong() -> None:
    """Whatever else is wrong with it."""
    wrong = [
        VECTOR[:-TAG],
        VECTOR[:56] + bytes(2) + VECTOR[58:-TAG],  # an interval of 0
        VECTOR[:-TAG] + b"\1",  # a block that is cut
        VECTOR[: HEADER.size] + block(Kind.NODE, b""),
        VECTOR[: HEADER.size] + block(Kind.INSTANCE, b""),
        VECTOR[:3] + bytes(LARGEST - 3 - TAG),
    ]
    for body in wrong:
        with pytest.raises(Malformed) as malformed:
            parse(signed(body, OTHER), [KEY])
        assert malformed.value.what == "signed with another key"


# Lengths


def test_a_datagram_of_any_length_is_read_or_refused() -> None:
    draw = random.Random(1)
    for length in [*range(1301), 65507]:
        for data in (bytes(length), (VECTOR[:3] + bytes(length))[:length], draw.randbytes(length)):
            with pytest.raises(Malformed):
                parse(data, [KEY])
        padding = length - HEADER.size - TAG - BLOCK.size
        if padding < 0:
            continue
        data = with_blocks(block(99, bytes(padding)))
        assert len(data) == length
        if length <= LARGEST:
            assert parse(data, [KEY]) == HELLO
        else:
            with pytest.raises(Malformed, match="longer than 1200 octets"):
                parse(data, [KEY])


def test_a_datagram_that_is_cut_is_refused() -> None:
    for length in range(len(VECTOR)):
        with pytest.raises(Malformed):
            parse(VECTOR[:length], [KEY])


def test_a_signed_datagram_ends_where_a_block_ends() -> None:
    ends = {HEADER.size + sum(map(len, BLOCKS[:n])) for n in range(len(BLOCKS) + 1)}
    for length in range(len(VECTOR) - TAG + 1):
        if length in ends:
            assert parse(signed(VECTOR[:length]), [KEY]).boot == HELLO.boot
        else:
            with pytest.raises(Malformed, match=r"shorter than a hello|a block is cut"):
                parse(signed(VECTOR[:length]), [KEY])


@pytest.mark.parametrize("whole", [*BLOCKS[:2], *BLOCKS[3:]], ids=["node", "instance", "report", "check", "problem"])
def test_a_block_that_ends_before_its_fields_is_refused(whole: bytes) -> None:
    for length in range(len(whole) - BLOCK.size):
        with pytest.raises(Malformed, match=r"block is too short|a text is cut"):
            parse(with_blocks(block(whole[0], whole[BLOCK.size : BLOCK.size + length])), [KEY])


@pytest.mark.parametrize(("part", "parts"), [(0, 0), (1, 1), (255, 7)])
def test_a_part_that_a_report_does_not_have_is_refused(part: int, parts: int) -> None:
    with pytest.raises(Malformed, match="a part that its report does not have"):
        parse(with_blocks(report_block(replace(REPORT, part=part, parts=parts))), [KEY])


def test_an_interval_of_0_is_refused() -> None:
    with pytest.raises(Malformed, match="an interval of 0"):
        parse(altered(VECTOR, 56, bytes(2)), [KEY])


def test_nothing_is_read_behind_another_magic() -> None:
    with pytest.raises(Malformed, match="not a datagram of the link"):
        parse(altered(VECTOR, 0, b"FL"), [KEY])


# Noise

SEEDS = [
    pack(HELLO, KEY),
    VECTOR,
    pack(FULL, KEY),
    with_blocks(*(block(kind, bytes(range(50))) for kind in range(8))),
    pack(replace(HELLO, heard=tuple(Heard(identity(str(n)), n) for n in range(93))), KEY),
]


def mutations(count: int, seed: int) -> Iterator[tuple[bytes, bool]]:
    """Flips, cuts and insertions, mostly in the blocks, and whether it is signed again: three of four are."""
    draw = random.Random(seed)
    for turn in range(count):
        body = bytearray(draw.choice(SEEDS)[:-TAG])
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(HEADER.size if draw.random() < 0.9 and len(body) > HEADER.size else 3, len(body) + 1)
            match draw.randrange(4):
                case 0:
                    body[at : at + 1] = bytes((draw.randrange(256),))
                case 1:
                    del body[at : at + draw.randint(1, 8)]
                case 2:
                    body[at:at] = draw.randbytes(draw.randint(1, 8))
                case 3 if at < len(body):
                    body[at] ^= 1 << draw.randrange(8)
        is_signed = turn % 4 > 0
        yield signed(bytes(body)) if is_signed else bytes(body) + draw.randbytes(TAG), is_signed


def shown(datagram: Datagram) -> list[str]:
    """The texts that a person may see."""
    node = datagram.node
    texts = [state.reason for state in datagram.instances] + ([node.name, node.version, node.reason] if node else [])
    texts += [text for check in datagram.checks for text in (check.name, check.value, check.last_result)]
    return texts + [text for p in datagram.problems for text in (p.code, p.severity, p.subject, p.what, p.hint)]


def test_noise_raises_nothing_but_malformed() -> None:
    read = 0
    refused: set[str] = set()
    for data, is_signed in mutations(50_000, seed=1):
        try:
            datagram = parse(data, [KEY])
        except Malformed as error:
            refused.add(error.what)
        else:
            assert is_signed
            assert all(text.isprintable() for text in shown(datagram))
            read += 1
    assert {"a block is cut", "a text is cut", "signed with another key", "an interval of 0"} < refused
    assert 5_000 < read < 30_000  # or the mutations test only one side
