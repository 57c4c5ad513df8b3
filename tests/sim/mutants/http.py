"""Bugs of the process that serves HTTP."""

from tests.sim.mutants import Mutant

ACCESS, SERVER, SOURCE, EVENTS = (f"web/{name}.py" for name in ("access", "server", "source", "events"))
OF_ACCESS, OF_LIMITS = "web/test_http_access.py::test_", "web/test_http_limits.py::test_"
OF_ROUTES, OF_EVENTS = "web/test_http_routes.py::test_", "web/test_http_events.py::test_"

MUTANTS = (
    Mutant(
        "every host may be meant",
        ACCESS,
        "if name not in self._hosts and name != request.own:",
        "if False:",
        f"{OF_ACCESS}a_name_that_leads_here_is_not_enough",
    ),
    Mutant(
        "the host in the target is not compared",
        SERVER,
        "if meant.lower() != authority.lower():",
        "if False:",
        f"{OF_ACCESS}the_host_in_the_target_counts",
    ),
    Mutant(
        "whoever comes over the network may read",
        ACCESS,
        "if not request.may_read:",
        "if False:",
        f"{OF_ACCESS}who_comes_over_the_network_needs_the_token",
    ),
    Mutant(
        "the beginning of a token is enough",
        ACCESS,
        "compare_digest(token, self._token)",
        "self._token.startswith(token)",
        f"{OF_ACCESS}who_comes_over_the_network_needs_the_token",
    ),
    Mutant(
        "wrong tokens are not counted",
        ACCESS,
        "self._wrong.note(request.client)",
        "pass",
        f"{OF_ACCESS}wrong_tokens_are_counted_for_each_address",
    ),
    Mutant(
        "a page of another site may order if it has the token",
        ACCESS,
        "_same_site(request, is_needed=kind",
        "bool(kind",
        f"{OF_ACCESS}a_page_of_another_site_orders_nothing_even_with_the_token",
    ),
    Mutant(
        "an origin on another port is ours",
        ACCESS,
        "_plain(rest, scheme) == _plain(authority.lower(), scheme)",
        "host_of(rest) == host_of(authority)",
        f"{OF_ACCESS}a_page_of_another_site_orders_nothing_even_with_the_token",
    ),
    Mutant(
        "a client_ca that cannot be used opens the listener",
        SERVER,
        'bool(self._tls and self._tls.verify_mode.name == "CERT_REQUIRED")',
        "bool(self._tls and self._settings and self._settings.client_ca)",
        f"{OF_ACCESS}a_broken_ca_opens_nothing",
    ),
    Mutant(
        "a length beside chunks is believed",
        SERVER,
        'if any(name == b"transfer-encoding"',
        'if any(name == b"x-transfer-encoding"',
        f"{OF_LIMITS}garbage_is_refused_once_and_the_connection_ends",
    ),
    Mutant(
        "a body has no limit",
        SERVER,
        "if lengths and int(lengths[0]) > LONGEST_BODY:",
        "if False:",
        f"{OF_LIMITS}a_body_of_more_than_four_kilobytes_is_refused",
    ),
    Mutant(
        "each octet gives a request more time",
        SERVER,
        "if self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:",
        "if True:",
        f"{OF_LIMITS}a_request_that_does_not_end_is_ended",
    ),
    Mutant(
        "connections that say nothing are kept",
        SERVER,
        "while len(self.answered) + len(self.waiting) > MOST_WAITING:",
        "while False:",
        f"{OF_LIMITS}a_thousand_connections_that_say_nothing_keep_nobody_from_an_answer",
    ),
    Mutant(
        "those that were answered stay before a new one",
        SERVER,
        "next(iter(self.answered or self.waiting)).drop()",
        "next(iter(self.waiting or self.answered)).drop()",
        f"{OF_LIMITS}a_request_that_is_not_read_yet_is_not_dropped_for_those_that_were_answered",
    ),
    Mutant(
        "a misspelt check is an order",
        "web/routes.py",
        'if name != "check"]:',
        "if False]:",
        f"{OF_ACCESS}a_misspelt_check_is_no_order",
    ),
    Mutant(
        "the password of a proxy counts before the form",
        ACCESS,
        'kind, token = ("form", token) if token else _header_token(request)',
        'kind, token = ("form", token) if token and not _header_token(request)[0] else _header_token(request)',
        f"{OF_ACCESS}a_form_passes_a_proxy_that_sends_its_own_password_along",
    ),
    Mutant(
        "an unread stream is kept",
        EVENTS,
        "if reader.unread > MOST_UNREAD:",
        "if False:",
        f"{OF_LIMITS}a_reader_of_events_that_does_not_read_is_dropped",
    ),
    Mutant(
        "each reader asks the daemon",
        SOURCE,
        "await asyncio.sleep(self._asked_at + LEAST_INTERVAL - self._loop.time())",
        "pass",
        f"{OF_ROUTES}many_readers_cost_the_daemon_four_questions_a_second",
    ),
    Mutant(
        "a change leaves the old status good",
        SOURCE,
        "max(self._loop.time() - within, self._changed_at)",
        "self._loop.time() - within",
        f"{OF_ROUTES}the_status_is_not_older_than_the_last_change",
    ),
    Mutant(
        "a watch that is taken up again tells all again",
        SOURCE,
        'if record["at"] == self._last_at and line not in self._last:',
        "if True:",
        f"{OF_EVENTS}a_watch_that_breaks_is_taken_up_again_and_tells_nothing_twice",
    ),
)
