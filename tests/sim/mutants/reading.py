"""Files that people wrote (keepalived.conf, floatip.toml, scripts), and what check, init and adopt make of them."""

from tests.sim.mutants import Mutant

SYNTAX, VRRP = "reading/keepalived/syntax.py", "reading/keepalived/vrrp.py"
KEYWORDS = "reading/keepalived/keywords.py"
COMMANDS, FACTS = "reading/keepalived/lint/commands.py", "reading/keepalived/lint/facts.py"
INSTANCES, TRACKING = "reading/keepalived/lint/instances.py", "reading/keepalived/lint/tracking.py"
SCRIPTS, REGULAR = "reading/keepalived/lint/scripts.py", "reading/regular.py"
DOCUMENT, VALUES, ADVICE = "reading/toml/document.py", "reading/toml/values.py", "reading/toml/advice.py"
READER, MACHINE, FILES = "reading/toml/reader.py", "reading/machine.py", "reading/files.py"
ELECTION, NAMES, ADDRESSES = "reading/rules/election.py", "reading/rules/names.py", "reading/rules/addresses.py"
RULES_OF_COMMANDS, RULES_OF_NETWORK = "reading/rules/commands.py", "reading/rules/network.py"
PLAN, NOTIFY_SCRIPTS, BESIDE = "adopt/plan.py", "adopt/notify_scripts.py", "adopt/beside.py"
OF_CONF, OF_LINT = "config/test_keepalived_conf.py::test_", "config/test_keepalived_lint.py::test_"
FRONT_END, OF_FRONT_END = "reading/keepalived/front_end/", "config/test_keepalived_front_end.py::test_"
OF_CONFIG, OF_MACHINE = "config/test_config.py::test_", "host/test_machine.py::test_"
OF_SECOND_CHANCE, SECOND_CHANCE = "config/test_second_chance_table.py::test_", "reading/rules/second_chance.py"
OF_NODES, KEY = "config/test_nodes.py::test_", "reading/key.py"
OF_ADOPT, OF_INIT = "adopt/test_adopt.py::test_", "adopt/test_init.py::test_"
READ = f"{OF_CONF}each_case_is_read_as_keepalived_reads_it"
REFUSED = f"{OF_CONF}what_is_refused_is_refused_by_keepalived_too_and_every_error_has_its_place"
FOUND = f"{OF_LINT}a_fault_in_the_configuration_is_found_and_nothing_else"
REPORT = f"{OF_CONFIG}the_report_of_each_case_is_the_one_below_its_dashes"

MUTANTS = (
    # The second chance
    Mutant(
        "a second chance without nodes is accepted",
        SECOND_CHANCE,
        "if _used(model) and not model.nodes and not model.member",
        "if False",
        f"{OF_SECOND_CHANCE}without_nodes_it_is_refused",
    ),
    Mutant(
        "the tunnel gets the port of the link",
        SECOND_CHANCE,
        "if one.port == model.link.port:",
        "if False:",
        f"{OF_SECOND_CHANCE}the_tunnel_and_the_link_need_two_ports",
    ),
    Mutant(
        "a second chance for whichever instance can have it warns of the others",
        SECOND_CHANCE,
        ' or one.mode != "on":',
        ":",
        f"{OF_SECOND_CHANCE}on_warns_of_instances_that_cannot_have_it_and_auto_does_not",
    ),
    Mutant(
        "a second chance that is off is on",
        "model.py",
        'if not one or one.mode == "off":',
        "if not one:",
        f"{OF_SECOND_CHANCE}the_core_learns_the_port_the_limit_and_whether_it_is_wanted",
    ),
    Mutant(
        "nodes may have tunnels of different ports",
        "model.py",
        "[(second_chance.is_wanted, second_chance.port)]",
        "[second_chance.is_wanted]",
        f"{OF_SECOND_CHANCE}mode_and_port_must_be_alike_on_all_nodes_and_the_limit_need_not",
    ),
    Mutant(
        "what keepalived elects has a second chance",
        "core/settings.py",
        'return self.placement == "all" and isinstance(self.election, Nodes | Vrrp) and not is_exclusive',
        'return self.placement == "all"',
        f"{OF_SECOND_CHANCE}only_where_all_nodes_hold_the_address_and_floatip_elects",
    ),
    # keepalived.conf as it runs
    Mutant(
        "an address that BGP announces is held by the master only",
        FRONT_END + "instances.py",
        'placement="all" if is_announced else "master",',
        'placement="master",',
        f"{OF_FRONT_END}with_a_data_centre_single_addresses_are_announced_and_held_on_lo_of_all_nodes",
    ),
    Mutant(
        "a member of a group has weights of its own",
        FRONT_END + "checks.py",
        "if weight and (is_owner or is_grouped):",
        "if weight and is_owner:",
        f"{OF_FRONT_END}weights_of_members_of_a_group_count_only_where_the_group_says_so",
    ),
    Mutant(
        "a program without a path is not looked up",
        FRONT_END + "checks.py",
        "return (str(found), *command[1:]) if found else command",
        "return command",
        f"{OF_FRONT_END}checks_are_made_of_what_is_tracked",
    ),
    Mutant(
        "a keyword that floatip cannot do is passed over",
        FRONT_END + "doubts.py",
        '    if effect == "error":',
        "    if False:",
        f"{OF_FRONT_END}what_would_change_who_serves_is_an_error_with_its_line",
    ),
    Mutant(
        "a value that does not count is passed over",
        FRONT_END + "values.py",
        "self._stays(statement, self._keywords[name], counts)",
        "pass",
        f"{OF_FRONT_END}what_keepalived_accepts_in_silence_is_named_with_its_line",
    ),
    Mutant(
        "two data centres may contradict each other",
        READER,
        "    if named != dcid:",
        "    if False:",
        f"{OF_FRONT_END}a_file_beside_it_says_what_keepalived_conf_cannot",
    ),
    Mutant(
        "a sequence ends one number early",
        "reading/keepalived/repeats.py",
        "return range(first, last + (1 if step > 0 else -1), step)",
        "return range(first, last, step)",
        f"{OF_FRONT_END}repeated_lines_and_the_environment_are_put_in",
    ),
    Mutant(
        "characters that cannot be printed are names",
        FRONT_END + "__init__.py",
        "if unreadable := [*_unreadable(conf.statements)]:",
        "if unreadable := []:",
        f"{OF_FRONT_END}what_would_change_who_serves_is_an_error_with_its_line",
    ),
    # keepalived.conf, as keepalived 2.2.7 reads it
    Mutant(
        "a mask behind a peer is refused", VRRP, 'return re.split("[/-]", text, maxsplit=1)[0]', "return text", READ
    ),
    Mutant(
        "a check below its use counts",
        VRRP,
        "above = tuple(takewhile(lambda one: one is not user, statements))",
        "above = tuple(statements)",
        READ,
    ),
    Mutant(
        "a block that keepalived does not expect is passed over",
        KEYWORDS,
        "elif inner is not None and keyword not in inner and statement.block is not None:",
        "elif False:",
        REFUSED,
    ),
    Mutant(
        "a keyword without its value has the default",
        KEYWORDS,
        "if keyword in NEEDS_VALUE.get(block, ()) and len(statement.words) == 1:",
        "if False:",
        REFUSED,
    ),
    Mutant(
        "a comment ends a definition of many lines",
        SYNTAX,
        '(match[0].strip() if match else "") + "\\\\" * bool(continued)',
        '(match[0].strip() if match else "") + "\\\\" * bool(continued and match and match[0].strip())',
        READ,
    ),
    Mutant(
        "a definition cannot make a comment",
        SYNTAX,
        "return [_uncommented(text[: use.start()] + first + text[use.end() :]), *others]",
        "return [text[: use.start()] + first + text[use.end() :], *others]",
        READ,
    ),
    Mutant(
        "what cannot be expanded is taken as it stands",
        SYNTAX,
        "elif unsupported := UNSUPPORTED.search(text):",
        "elif unsupported := None:",
        f"{OF_CONF}what_is_not_supported_is_said_with_its_line",
    ),
    Mutant(
        "single quotes and backslashes count in all statements",
        SYNTAX,
        "return tuple(quoted or plain for quoted, plain in PLAIN_WORD.findall(text))",
        "return split(text)",
        READ,
    ),
    Mutant(
        "a password counts without auth_type PASS",
        VRRP,
        'known = [name for name in types if name in ("PASS", "AH")]',
        'known = ["PASS"]',
        READ,
    ),
    Mutant(
        "a password counts with version 3, too",
        VRRP,
        "_authentication(statement) if version == 2 and not strict else",
        "_authentication(statement) if True else",
        READ,
    ),
    Mutant(
        "the last notify line counts", VRRP, "found.setdefault(event, Notify(", "found.__setitem__(event, Notify(", READ
    ),
    Mutant(
        "a check with a word behind it is tracked",
        VRRP,
        'elif options and (options[0] != "weight" or len(options) < 2):',
        "elif False:",
        READ,
    ),
    Mutant(
        "an address of the other family counts",
        VRRP,
        "if is_other := bool(family and version != family):",
        "if is_other := False:",
        REFUSED,
    ),
    Mutant(
        "two instances may be one virtual router",
        VRRP,
        "elif router is not instance:",
        "elif False:",
        REFUSED,
    ),
    Mutant("an instance may be on lo", VRRP, 'given.argument() == "lo":', 'given.argument() == "":', REFUSED),
    Mutant(
        "a group on one line has one member", VRRP, "for name in line.words\n", "for name in line.words[:1]\n", READ
    ),
    Mutant("a member of a group need not exist", VRRP, "                if name in known\n", "", READ),
    Mutant(
        "an interval may be longer than version 3 can say",
        VRRP,
        "return min(4095, (microseconds + 5_000) // 10_000) / 100",
        "return (microseconds + 5_000) // 10_000 / 100",
        READ,
    ),
    Mutant(
        "a timeout of 0 is the interval",
        VRRP,
        're.fullmatch(r"\\+?0+", timeout.argument()) else',
        "False else",
        READ,
    ),
    Mutant(
        "an advert names more addresses than it can",
        VRRP,
        "addresses=tuple(addresses[:most]),",
        "addresses=tuple(addresses),",
        f"{OF_CONF}more_addresses_than_an_advert_holds_are_in_none",
    ),
    Mutant("a line may be of any length", SYNTAX, "if length > LONGEST_LINE:", "if False:", REFUSED),
    Mutant(
        "a directory is included", SYNTAX, "for name in found if not os.path.isdir(name))", "for name in found)", READ
    ),
    Mutant(
        "a brace too many is passed over",
        SYNTAX,
        '                    self._error(place, "a } that closes nothing"',
        '                    str((place, "a } that closes nothing")) or self._error(place, ""',
        REFUSED,
    ),
    Mutant(
        "a file may include itself ten times as often",
        SYNTAX,
        "MOST_LINES = 100_000",
        "MOST_LINES = 1_000_000",
        f"{OF_CONF}a_file_that_is_made_to_take_all_memory_or_time_is_refused",
    ),
    # What is unsafe in it
    Mutant(
        "the old checksum is not named",
        INSTANCES,
        "if checksum and not checksum.argument() and instance.version == 3:",
        "if False:",
        FOUND,
    ),
    Mutant(
        "shell syntax where no shell runs is not named",
        COMMANDS,
        "elif syntax := _shell_syntax(",
        "elif syntax := str(",
        FOUND,
    ),
    Mutant(
        "two statements on a line are not named",
        INSTANCES,
        'if block and behind and not keyword.startswith("notify"):',
        "if False:",
        FOUND,
    ),
    Mutant("an ignored check is not named", TRACKING, "        yield from _ignored_checks(owner)\n", "", FOUND),
    Mutant(
        "any word of a command that is a path is run",
        FACTS,
        "    if not interpreter or not named:\n",
        "    if named and not interpreter:\n"
        "        return program + paths_of(command[named[0] :])\n    if not named:\n",
        f"{OF_LINT}only_what_is_run_counts_as_a_path_of_a_command",
    ),
    Mutant(
        "the directory of a service is taken from it",
        FACTS,
        'if seen.is_directory and not any(map(part.is_relative_to, ROOTS_OWN)) and part != Path("/"):',
        "if False:",
        f"{OF_LINT}the_directory_of_somebody_else_is_not_taken_from_them",
    ),
    Mutant(
        "a script that asks systemctl changes a unit",
        SCRIPTS,
        "(start|stop|restart|try-restart",
        "(is-active|start|stop|restart|try-restart",
        f"{OF_LINT}a_notify_script_that_changes_a_unit_is_found_and_one_that_asks_is_not",
    ),
    Mutant(
        "a file that keepalived opens by a shell is not found",
        COMMANDS,
        'if words[0].startswith("</"):',
        "if False:",
        f"{OF_LINT}what_is_as_it_should_be_is_not_found",
    ),
    Mutant(
        "a link-local address may be the source of sessions",
        INSTANCES,
        "        and not virtual.address.is_link_local  # no source for what is far away\n",
        "",
        f"{OF_LINT}what_is_as_it_should_be_is_not_found",
    ),
    Mutant(
        "a service that nothing watches is not named",
        TRACKING,
        "    yield from unwatched_services(conf, facts)\n",
        "",
        f"{OF_LINT}a_service_that_no_check_watches_is_found",
    ),
    # adopt
    Mutant(
        "a plan that floatip check refuses is shown",
        PLAN,
        "        _may_be_written(system, setup, wanted, wishes)\n",
        "",
        f"{OF_ADOPT}a_plan_that_floatip_could_not_run_is_not_shown",
    ),
    Mutant(
        "an address that keepalived has twice is written twice",
        "adopt/floatip_toml.py",
        "return tuple(dict.fromkeys(one.address for one in floating(instance) if one.address.version == 4))",
        "return tuple(one.address for one in floating(instance) if one.address.version == 4)",
        f"{OF_ADOPT}an_address_that_keepalived_has_twice_is_written_once",
    ),
    Mutant(
        "a notify line that only logs goes away",
        NOTIFY_SCRIPTS,
        "re.fullmatch(SWITCH, command.strip())",
        're.search(f"{SWITCH}|logger", command)',
        f"{OF_ADOPT}a_notify_line_without_a_script_goes_if_it_switches_lelastic",
    ),
    Mutant(
        "a script that does more than switch lelastic goes away",
        NOTIFY_SCRIPTS,
        "    if LINES.fullmatch(line) or",
        "    if LINES.match(line) or",
        f"{OF_ADOPT}a_script_with_any_other_line_stays",
    ),
    Mutant(
        "an instance that cannot be adopted has no hint of its own",
        PLAN,
        'hint = next((hint for _, hint in unfit.values()), "without keepalived: floatip init")',
        'hint = "without keepalived: floatip init"',
        f"{OF_ADOPT}an_address_on_lo_is_for_a_person_to_move",
    ),
    Mutant(
        "what keepalived does not start with is adopted",
        "adopt/setup.py",
        'return next((line for line in said if NOT_STARTED.search(line)), "")',
        'return ""',
        f"{OF_ADOPT}a_keepalived_that_does_not_start_is_not_adopted",
    ),
    Mutant(
        "adopt gives the files of others to root",
        PLAN,
        "after = replace(before or new, content=",
        "after = replace(new, content=",
        f"{OF_ADOPT}the_guides_owners_are_a_danger_that_a_person_removes_first",
    ),
    # init
    Mutant(
        "a second node of one name is noticed at the end",
        "init.py",
        """raise values.Wrong(f"{node.name} is there already", "give each node a name of its own")""",
        "pass",
        f"{OF_INIT}each_answer_is_checked_at_its_question_and_asked_again",
    ),
    Mutant(
        "a relative path is one below /",
        "adopt/system.py",
        'Path(path).absolute().relative_to("/")',
        'str(path).lstrip("/")',
        f"{OF_INIT}a_relative_path_is_one_of_the_working_directory",
    ),
    Mutant(
        "all users may read what init and adopt write",
        "adopt/files.py",
        "return FileState(0o640, 0, group, content)",
        "return FileState(0o644, 0, group, content)",
        f"{OF_INIT}file_and_key_are_for_root_and_the_daemon_alone",
    ),
    # floatip.toml
    Mutant(
        "a file that is nested deeply ends the daemon",
        DOCUMENT,
        "except (RecursionError, MemoryError):",
        "except MemoryError:",
        f"{OF_CONFIG}a_file_that_would_exhaust_the_reader_is_refused",
    ),
    Mutant(
        "a text is parsed again for its lines",
        DOCUMENT,
        "tomllib.loads(text), locate(text), mode",
        "[tomllib.loads(text) for _ in range(2)][-1], locate(text), mode",
        f"{OF_CONFIG}the_file_is_parsed_once_however_its_lists_are_written",
    ),
    Mutant(
        "a FIFO in place of the file is waited for",
        REGULAR,
        "    if not stat.S_ISREG(os.fstat(descriptor).st_mode):\n",
        "    if False:\n",
        f"{OF_CONFIG}a_fifo_in_place_of_the_file_is_refused_and_not_waited_for",
    ),
    Mutant(
        "a device is opened before it is looked at",
        REGULAR,
        "flags = os.O_PATH | os.O_CLOEXEC",
        "flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC",
        f"{OF_ADOPT}what_is_no_regular_file_is_not_opened",
    ),
    Mutant(
        "a password of the wrong type is printed",
        VALUES,
        "        raise Wrong(what, wrong.hint) from None\n\n\ndef md5_key",
        "        raise\n\n\ndef md5_key",
        f"{REPORT}[secrets_of_the_wrong_type]",
    ),
    Mutant(
        "a password in a line that is not TOML is printed",
        ADVICE,
        "if not line or SECRET.search(line):",
        "if not line:",
        f"{REPORT}[a_secret_that_is_not_toml]",
    ),
    Mutant(
        "a password that all can read is passed over",
        READER,
        "if has_secret and document.mode & 0o004:",
        "if False:",
        f"{OF_CONFIG}a_password_that_everybody_can_read_is_warned_of",
    ),
    Mutant(
        "keepalived's words are unknown keys",
        "reading/toml/walk.py",
        'if plain in table.keys else KEEPALIVEDS.get(key, ("", ""))',
        'if plain in table.keys else ("", "")',
        f"{REPORT}[words_of_keepalived]",
    ),
    Mutant(
        "a keepalived.conf is bad TOML",
        ADVICE,
        "if KEEPALIVED.search(text):",
        "if False:",
        f"{REPORT}[a_keepalived_conf]",
    ),
    # What check says of this machine
    Mutant(
        "a source that is not here is passed over",
        ELECTION,
        '            yield _not_there(places, (*at, "source"), one, machine)\n',
        "            pass\n",
        f"{REPORT}[a_source_that_is_not_here]",
    ),
    Mutant(
        "the other node's file is not recognized",
        ELECTION,
        '    if peer:\n        what = f"{one.source} is not here, but',
        '    if False:\n        what = f"{one.source} is not here, but',
        f"{REPORT}[the_other_nodes_file]",
    ),
    Mutant(
        "a floating address may be a peer",
        ELECTION,
        "            if peer in moving:\n",
        "            if False:\n",
        f"{REPORT}[peers_that_float]",
    ),
    Mutant(
        "that nothing is announced is passed over",
        NAMES,
        '    if model.instances and places.is_whole(("instance",)) and not is_meant:\n',
        "    if False:\n",
        f"{REPORT}[a_vlan_without_bgp]",
    ),
    Mutant(
        "a VLAN that is meant is warned of",
        NAMES,
        " and not is_meant:",
        ":",
        f"{REPORT}[a_vlan_that_is_meant]",
    ),
    Mutant(
        "that nothing checks the service is passed over",
        NAMES,
        "and triggers.issuperset(names):",
        "and False:",
        f"{REPORT}[nothing_checks_the_service]",
    ),
    Mutant(
        "a stop that systemd cuts short is passed over",
        RULES_OF_COMMANDS,
        "if takes >= machine.stop_limit:",
        "if False:",
        f"{REPORT}[a_stop_that_takes_too_long]",
    ),
    Mutant(
        "a missing address family is passed over",
        RULES_OF_NETWORK,
        "for version in sorted(distant - usable):",
        "for version in ():",
        f"{OF_CONFIG}a_machine_without_ipv6_cannot_reach_what_has_no_other_address",
    ),
    Mutant(
        "an address that stands elsewhere is passed over",
        ADDRESSES,
        "if one != ours:",
        "if False:",
        f"{REPORT}[an_address_that_stands_elsewhere]",
    ),
    Mutant(
        "own addresses that a release takes along are passed over",
        ADDRESSES,
        "if other and address.version == 4 and name in machine.demoting:",
        "if False:",
        f"{REPORT}[a_vlan_without_bgp]",
    ),
    Mutant(
        "check looks with the eyes of root",
        MACHINE,
        "        if not self.user:\n",
        "        if True:\n",
        f"{OF_MACHINE}files_are_looked_at_with_the_eyes_of_the_daemons_user",
    ),
    Mutant(
        "a file that the daemon cannot read is accepted",
        "reading/__init__.py",
        "if machine.user and not machine.may(path.absolute(), os.R_OK):",
        "if False:",
        f"{OF_MACHINE}files_are_looked_at_with_the_eyes_of_the_daemons_user",
    ),
    Mutant(
        "a script that no kernel can run is accepted",
        FILES,
        "elif doubt := _closed(path, machine) or _first_line(path):",
        "elif doubt := _closed(path, machine):",
        f"{REPORT}[scripts_that_cannot_be_executed]",
    ),
    Mutant(
        "a bridge gives the router id",
        MACHINE,
        'if name != "lo" and name not in self.bridges]',
        'if name != "lo"]',
        f"{OF_MACHINE}nothing_but_a_bridge_is_no_address",
    ),
    Mutant(
        "a floating address gives the router id",
        MACHINE,
        "if one.ip not in avoid and not",
        "if not",
        f"{OF_MACHINE}the_address_of_a_machine_is_one_of_its_own",
    ),
    Mutant(
        "a keepalived that elects for the same is passed over",
        BESIDE,
        "    yield from _electors(model, places, conf)\n",
        "",
        "adopt/test_beside.py::test_a_keepalived_that_runs_would_be_master_too",
    ),
    Mutant(
        "a lelastic that runs is passed over",
        BESIDE,
        "        yield from _announcers(places, system)\n",
        "        pass\n",
        "adopt/test_beside.py::test_a_lelastic_that_runs_takes_the_sessions",
    ),
    # The nodes and their key
    Mutant(
        "every user may read the key",
        KEY,
        "if mode & 0o007:",
        "if False:",
        f"{OF_NODES}a_key_that_others_can_use_is_refused",
    ),
    Mutant(
        "the old key is believed no more once the next one signs",
        "key.py",
        'return keys[::-1] if step == "--use-next" else keys[:1]',
        'return keys[1:] if step == "--use-next" else keys[:1]',
        "host/test_key.py::test_in_every_step_each_node_believes_what_the_others_sign",
    ),
    Mutant(
        "the digest is of this node",
        "model.py",
        "core.Link(self.nodes, here.node.name, here.keys, self.digest, *figures)",
        "core.Link(self.nodes, here.node.name, here.keys, sha256(here.interface.encode()).digest()[:8], *figures)",
        f"{OF_NODES}the_digest_is_the_same_on_all_nodes_and_with_another_key",
    ),
    Mutant(
        "the digest says nothing of elections",
        "model.py",
        "isinstance(one.election, core.Nodes) and one.election,\n",
        "isinstance(one.election, core.Nodes),\n",
        f"{OF_NODES}the_digest_tells_each_difference_from_every_other",
    ),
    Mutant(
        "an address that is not there yet ends the daemon",
        "reading/rules/nodes.py",
        'yield places.on_machine(("node",), what, hint)\n\n\n',
        'yield places.error(("node",), what, hint)\n\n\n',
        f"{OF_NODES}a_node_whose_address_is_not_there_yet_may_start_later",
    ),
    # What reaches a terminal
    Mutant(
        "names that others chose are commands to the terminal",
        "text.py",
        'keep = (char if char.isprintable() or char == "\\t" else',
        "keep = (char if True else",
        "adopt/test_others_who_write.py::test_nothing_in_a_file_is_a_command_to_roots_terminal",
    ),
    Mutant(
        "in a pipe an error comes before what explains it",
        "text.py",
        "        sys.stdout.flush()\n",
        "        pass\n",
        "host/test_command_line.py::test_what_explains_an_error_stands_above_it_also_in_a_pipe",
    ),
    Mutant(
        "the number of a data centre stands in hexadecimal in its peers",
        "providers.py",
        "2600:3c0f:{dcid}:34::{number}",
        "2600:3c0f:{dcid:x}:34::{number}",
        "config/test_config.py::test_the_number_of_a_data_centre_stands_in_decimal_in_its_peers",
    ),
)
