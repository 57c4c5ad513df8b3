"""What is counted, and what Prometheus gets of it."""

from tests.sim.mutants import Mutant

COUNTERS, ROUTER, METRICS = "core/counters.py", "core/election/router.py", "web/metrics.py"
OF_FIGURES, OF_METRICS = "core/test_figures.py::test_", "web/test_metrics.py::test_"

MUTANTS = (
    Mutant(
        "an advert that is refused is not counted",
        ROUTER,
        "self.adverts.refused[refused] += 1",
        "pass",
        f"{OF_FIGURES}an_advert_that_is_refused_counts_with_its_reason_at_the_router_that_it_names",
    ),
    Mutant(
        "a role that stays counts as a change",
        COUNTERS,
        "if before == after:",
        "if False:",
        f"{OF_FIGURES}a_role_counts_with_its_cause_and_only_when_it_changes",
    ),
    Mutant(
        "a value on a bound is in the bucket above",
        COUNTERS,
        "from bisect import bisect_left",
        "from bisect import bisect_right as bisect_left",
        f"{OF_FIGURES}a_value_on_a_bound_belongs_to_its_bucket_and_a_greater_one_to_the_last",
    ),
    Mutant(
        "a check that times out takes no time",
        "core/health.py",
        "self.duration.observe(timeout)",
        "pass",
        f"{OF_FIGURES}the_duration_of_a_check_counts_from_the_question_to_the_answer_or_the_timeout",
    ),
    Mutant(
        "a quote in a name ends the label",
        METRICS,
        """.replace('"', r"\\"")""",
        "",
        f"{OF_METRICS}promtool_accepts_the_names_of_hostile_things_and_no_line_is_made_by_them",
    ),
    Mutant(
        "a moment moves from scrape to scrape",
        METRICS,
        "status.monotonic - age + figures.clock_ahead",
        "status.monotonic + figures.clock_ahead",
        f"{OF_METRICS}moments_are_seconds_since_the_epoch_and_the_same_at_the_next_scrape",
    ),
    Mutant(
        "a drained standby is ready",
        METRICS,
        'may = takes_over or one.role.value == "master"',
        "may = True",
        f"{OF_METRICS}a_drained_standby_and_a_sick_node_are_not_ready",
    ),
)
