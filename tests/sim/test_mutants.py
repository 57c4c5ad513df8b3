"""The lists of planted bugs fit the product as it is."""

from pathlib import Path

from tests.sim.mutants.__main__ import MUTANTS, PACKAGE

TESTS = Path(__file__).parents[1]


def test_each_mutant_changes_a_text_that_is_there_once_and_names_a_test_that_is_there() -> None:
    wrong = []
    for mutant in MUTANTS:
        found = (PACKAGE / mutant.file).read_text().count(mutant.old)
        if found != 1 or mutant.old == mutant.new:
            wrong.append(f"{mutant.bug}: {mutant.file} has {found} times {mutant.old!r}")
        file, _, test = mutant.test.partition("[")[0].partition("::")
        if mutant.test and f"def {test}(" not in (TESTS / file).read_text():
            wrong.append(f"{mutant.bug}: there is no {mutant.test}")
    assert "\n".join(wrong) == ""


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.bug for mutant in MUTANTS}) == len(MUTANTS)
