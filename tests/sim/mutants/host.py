"""The rest of the host: checks, files, the control socket, notify commands, keepalived's words, the command line."""

from tests.sim.mutants import Mutant

KIND, SCRIPT, TCP = "host/checks/kind.py", "host/checks/script.py", "host/checks/tcp.py"
RUNNER, CHILD, SPAWN, INOTIFY = "host/checks/runner.py", "host/child.py", "host/spawn.py", "host/inotify.py"
HOOKS, NEWS, CONTROL = "host/hooks.py", "host/news.py", "host/control.py"
COMMANDS, TELLER, FIFOS = "host/notify_commands.py", "host/teller.py", "host/notify_fifo.py"
OF_COMMANDS, OF_TELLER = "host/test_notify_commands.py::test_", "host/test_teller.py::test_"
OF_FIFOS = "host/test_notify_fifo.py::test_"
DAEMON, RELOAD, RESTART, FAILURES = "host/daemon.py", "host/reload.py", "host/restart.py", "host/failures.py"
DISK, STARTS, SYSTEMD = "host/disk.py", "host/starts.py", "host/systemd.py"
WORDS, FIFO = "host/keepalived/words.py", "host/keepalived/fifo.py"
PROCESSES = "host/keepalived/processes.py"
OF_WORLD, OF_CONTROL = "host/test_faults_of_the_world.py::test_", "host/test_control.py::test_"
OF_DAEMON, OF_RESTART = "host/test_daemon.py::test_", "host/test_restart.py::test_"
OF_ADVERTS, OF_KEEPALIVED = "host/test_adverts.py::test_", "host/test_keepalived_elector.py::test_"

MUTANTS = (
    # Scripts
    Mutant(
        "a run whose predecessor still ends has failed",
        SCRIPT,
        "            self._next = run, timeout, self._loop.time() + timeout\n",
        '            self._report(run, False, "the previous run has not ended yet")\n',
    ),
    Mutant("a run whose predecessor still ends is forgotten", SCRIPT, "if self._next:", "if False:"),
    # The notify command
    Mutant("two notify commands at a time", HOOKS, "if not self._current:", "if True:"),
    Mutant("the latest change of role is told first", HOOKS, "= self._queue.popleft()", "= self._queue.pop()"),
    Mutant(
        "of too many changes of role a late one is dropped",
        HOOKS,
        "            self._queue.popleft()\n",
        "            self._queue.pop()\n",
    ),
    Mutant("dropped changes are not counted", HOOKS, "self.dropped += 1", "self.dropped += 0"),
    Mutant("the same role with another reason is a change", HOOKS, "or not item.is_new", ""),
    Mutant(
        "a notify command that has ended is not followed by the next", HOOKS, "self._next, env", "lambda: None, env"
    ),
    Mutant("the end waits for no notify command", HOOKS, "call_later(timeout, self._end)", "call_later(0, self._end)"),
    # keepalived's notify commands and FIFOs
    Mutant(
        "the commands of one instance run side by side",
        COMMANDS,
        "        if queue.job is not None:\n            self._hurry(queue)\n        elif",
        "        if queue.jobs and",
        f"{OF_COMMANDS}a_state_has_its_own_command_with_its_own_words_and_then_notify_with_four_more",
    ),
    Mutant(
        "a command that hangs is never ended",
        COMMANDS,
        "self._limit(queue, OVERTIME)",
        "pass",
        f"{OF_COMMANDS}a_command_without_a_timeout_may_run_until_the_next_one_is_due_and_30_s_more",
    ),
    Mutant(
        "a process that the kernel cannot end holds up its instance without limit",
        COMMANDS,
        "self._loop.call_later(2 * GRACE, self._go_on, queue, job)",
        "pass",
        f"{OF_COMMANDS}a_process_that_the_kernel_cannot_end_holds_up_the_next_command_for_a_second",
    ),
    Mutant(
        "commands that never end hold up those of other instances",
        COMMANDS,
        "call_later(SLOW, self._make_room, queue)",
        "call_later(1e9, self._make_room, queue)",
        f"{OF_COMMANDS}instances_run_side_by_side_up_to_a_bound_and_slow_ones_do_not_count",
    ),
    Mutant(
        "changes that were skipped are not counted",
        COMMANDS,
        "self.dropped += number",
        "self.dropped += 0",
        f"{OF_COMMANDS}of_too_many_changes_the_newest_state_is_told_and_the_number_of_those_skipped",
    ),
    Mutant(
        "a removed instance is told nothing",
        TELLER,
        "if last.word != word:",
        "if False:",
        f"{OF_TELLER}a_removed_instance_without_notify_deleted_is_in_fault",
    ),
    Mutant(
        "a state that a reload repeats is told again",
        TELLER,
        "if last and last.word == change.word:",
        "if False:",
        f"{OF_TELLER}nothing_is_told_after_a_reload_unless_the_state_changed",
    ),
    Mutant(
        "a FIFO that was removed stays away",
        FIFOS,
        "        except FileNotFoundError:\n            pass\n",
        "        except FileNotFoundError:\n            return None\n",
        f"{OF_FIFOS}a_fifo_that_somebody_removed_is_made_again",
    ),
    Mutant(
        "a line that does not fit is lost",
        FIFOS,
        "                self._loop.add_writer(self._opened.fd, self._flush)\n",
        "                self._lines.clear()\n",
        f"{OF_FIFOS}what_does_not_fit_waits_and_of_too_much_the_oldest_is_dropped_counted_and_a_failure",
    ),
    Mutant(
        "the end does not wait for the script that reads the FIFO",
        FIFOS,
        "while not (self._script_gone.is_set() or self._is_drained()) and",
        "while False and",
        f"{OF_FIFOS}the_script_gets_the_path_and_each_line_also_the_last_and_is_started_again",
    ),
    # News
    Mutant("the latest news is told first", NEWS, "group = self._waiting.popleft()", "group = self._waiting.pop()"),
    Mutant(
        "a role that returns is no news", NEWS, "self.latest[key] = one.value", "self.latest.setdefault(key, one.value)"
    ),
    # keepalived's words
    Mutant(
        "the words of an earlier keepalived are recalled", WORDS, 'if state["process"] != self._process:', "if False:"
    ),
    Mutant(
        "nothing is recalled", WORDS, "for one in self._memory.recall(self._said_by_this_one) or ():", "for one in ():"
    ),
    Mutant("what was said is not remembered", WORDS, "self._memory.remember(", "str("),
    Mutant(
        "words that waited are taken for new", WORDS, "if is_old else _parsed(lines)", "if False else _parsed(lines)"
    ),
    Mutant(
        "of what waited the first counts",
        WORDS,
        "before = latest.pop((said.kind, said.name), said)",
        "before = said\n        if (said.kind, said.name) in latest:\n            continue",
    ),
    # Nothing in the loop waits for a path, an exec or a disk
    Mutant(
        "a file is looked at in the loop",
        KIND,
        "self._means.jobs.do(self._job, self._done)",
        "self._done(self._job())",
        f"{OF_WORLD}a_file_system_that_hangs_fails_its_checks_and_stops_nothing_else",
    ),
    Mutant(
        "a check is started in the loop",
        CHILD,
        "workers.do(partial(_spawn, argv, environment, source, run_as, lends), self._started)",
        "self._loop.call_soon(lambda: self._started(_spawn(argv, environment, source, run_as, lends)))",
        f"{OF_WORLD}an_exec_that_hangs_fails_one_check_and_stops_nothing_else",
    ),
    Mutant(
        "an exec keeps Python's lock",
        SPAWN,
        "_check(_libc.posix_spawn(",
        "_check(_quick.posix_spawn(",
        "host/test_checks.py::test_an_exec_that_hangs_leaves_python_its_lock",
    ),
    Mutant(
        "the pid files of keepalived are read in the loop",
        PROCESSES,
        "self._jobs.do(partial(_open_all, self._pid_files), self._looked)",
        "self._looked(_open_all(self._pid_files))",
        f"{OF_WORLD}a_keepalived_whose_paths_hang_stops_nothing_else",
    ),
    Mutant(
        "the FIFO of keepalived is opened in the loop",
        FIFO,
        "self._jobs.do(partial(self._job, self._identity), partial(self._looked, is_old))",
        "self._looked(is_old, self._job(self._identity))",
        f"{OF_WORLD}a_keepalived_whose_paths_hang_stops_nothing_else",
    ),
    Mutant(
        "a reload reads in the loop",
        RELOAD,
        "self._workers.do(partial(outcome_of, self._read, waiting), partial(self._has_read, self._reading))",
        "self._loop.call_soon(lambda: self._has_read(self._reading, outcome_of(self._read, waiting)))",
        "host/test_reload.py::test_signals_during_a_reading_lead_to_one_more_reading_after_it",
    ),
    Mutant(
        "a file is written in the loop",
        DISK,
        "        if len(self._tasks) == 1:\n            self._workers.do(job, self._done)",
        "        if len(self._tasks) == 1:\n            self._done(job())",
        "host/test_disk.py::test_a_disk_that_hangs_holds_up_nothing_and_is_told",
    ),
    Mutant(
        "what waits for a disk that hangs has no bound",
        DISK,
        "if len(self._tasks) >= LIMIT:",
        "if False:",
        "host/test_disk.py::test_what_waits_for_a_disk_that_hangs_is_bounded",
    ),
    Mutant(
        "without a free thread a job is lost",
        "host/workers.py",
        "        if not self._threads:\n",
        "        if False:\n",
        "host/test_disk.py::test_a_system_that_can_start_no_thread_is_a_failure_until_it_can",
    ),
    Mutant(
        "a failover of 255 instances waits for its own log",
        NEWS,
        "while self._waiting and left > 0:",
        "while self._waiting:  # all",
        "host/test_news.py::test_news_are_told_a_few_at_a_time_and_in_their_order",
    ),
    # Checks
    Mutant(
        "an event is taken for the truth, and no file is looked at again",
        KIND,
        "        self._later(LOOK_INTERVAL, self._look)\n",
        "        self._never()\n",
        f"{OF_WORLD}what_inotify_does_not_tell_is_seen_by_looking",
    ),
    Mutant(
        "a connection to itself is a service",
        TCP,
        "elif self._is_connected_to_itself():",
        "elif False:",
        f"{OF_WORLD}a_connection_to_itself_is_no_service",
    ),
    Mutant(
        "a connection to itself leaves its port in TIME_WAIT",
        TCP,
        "        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)\n",
        "",
        f"{OF_WORLD}a_connection_to_itself_is_no_service",
    ),
    Mutant(
        "a check without a socket ends the daemon",
        TCP,
        '        except OSError as error:\n            done(False, f"cannot open',
        '        except BlockingIOError as error:\n            done(False, f"cannot open',
        f"{OF_WORLD}what_the_world_refuses_fails_the_check_until_it_is_given_again",
    ),
    Mutant(
        "without inotify a check never gets a result",
        INOTIFY,
        "                if fd < 0:\n                    return ctypes.get_errno()\n",
        "                if fd < 0:\n                    raise RuntimeError\n",
        f"{OF_WORLD}what_the_world_refuses_fails_the_check_until_it_is_given_again",
    ),
    Mutant(
        "a check that times out gets no chance to clean up",
        CHILD,
        "self._signal(signal.SIGTERM)",
        "self._signal(signal.SIGKILL)",
        "host/test_checks.py::test_a_run_that_times_out_is_told_to_end_so_that_its_trap_runs",
    ),
    Mutant(
        "a script without its interpreter is called missing",
        CHILD,
        "if error.errno == errno.ENOENT and os.path.exists(argv[0]):",
        "if False:",
        "host/test_checks.py::test_a_script_without_its_interpreter_is_not_called_missing",
    ),
    Mutant(
        "as process 1 it reaps no orphan",
        RUNNER,
        "if means is None and os.getpid() == 1 else None",
        "if False else None",
        f"{OF_WORLD}as_process_1_it_reaps_what_others_leave_and_no_answer_is_lost",
    ),
    Mutant(
        "as process 1 it reaps the children of others, too",
        CHILD,
        " and ended.si_pid not in _ours:",
        ":",
        f"{OF_WORLD}as_process_1_it_reaps_what_others_leave_and_no_answer_is_lost",
    ),
    # The control socket: bounded work for each client
    Mutant(
        "all requests are answered at once",
        CONTROL,
        "if part.is_over:",
        "if False:",
        f"{OF_CONTROL}of_many_clients_that_ask_together_one_slice_is_answered_before_the_loop_has_its_turn",
    ),
    Mutant(
        "a client that does not read is answered all the same",
        CONTROL,
        "        self._is_full = True\n",
        "        pass\n",
        f"{OF_CONTROL}a_client_that_asks_and_never_reads_costs_neither_time_nor_memory",
    ),
    Mutant(
        "a request may be of any length",
        CONTROL,
        "if len(self._buffer) > LONGEST_LINE:",
        "if False:",
        f"{OF_CONTROL}a_line_without_end_is_cut_off",
    ),
    Mutant(
        "a watcher that does not read may fill the memory",
        CONTROL,
        "if watcher.get_write_buffer_size() > MOST_UNREAD:",
        "if False:",
        f"{OF_CONTROL}a_watcher_that_does_not_read_is_left_behind",
    ),
    Mutant(
        "one user may take all descriptors",
        CONTROL,
        "if self._control.clients[self._who.uid] > MOST_CLIENTS or",
        "if False or",
        f"{OF_CONTROL}nobody_can_use_up_the_descriptors",
    ),
    # Failures are levels, and the next start is looked at
    Mutant(
        "a failure that is set again ends when its first time is over",
        FAILURES,
        "        self._expires_at.pop(what, None)\n        if lasts:",
        "        if lasts and what not in self._expires_at:",
        "host/test_failures.py::test_what_is_not_set_again_is_forgotten_in_one_step",
    ),
    Mutant(
        "of many failures only those that are shown name their addresses",
        FAILURES,
        "rest[0].hint, rest[0].code, unkept)",
        "rest[0].hint, rest[0].code)",
        "host/test_failures.py::test_what_is_too_much_to_be_shown_is_one_failure_with_all_of_its_addresses",
    ),
    Mutant(
        "a start that would be refused is no problem",
        RESTART,
        '            self._failures.set(RESTART, f"would fail:',
        '            str(f"would fail:',
        f"{OF_RESTART}what_would_stop_a_start_is_a_problem_until_it_is_mended",
    ),
    Mutant(
        "a path that hangs is asked again and again",
        RESTART,
        "if self._is_out:",
        "if False:",
        f"{OF_RESTART}a_path_that_hangs_is_told_and_asked_only_once",
    ),
    Mutant(
        "a refused reload stays one after the file was repaired",
        RESTART,
        "                self._correct(outcome)\n",
        "                pass\n",
        f"{OF_RESTART}what_a_refused_reload_said_is_corrected_when_the_file_changes",
    ),
    Mutant(
        "a reload that is refused is said in the log only",
        RELOAD,
        "                say_refused(self._failures, self._check)\n",
        "",
        "host/test_reload.py::test_what_cannot_be_loaded_is_a_failure_until_a_reload_succeeds",
    ),
    Mutant(
        "what this machine lacks keeps the unit down",
        DAEMON,
        "return _not_now() if error.may_mend else 2",
        "return 2",
        f"{OF_DAEMON}what_this_machine_lacks_now_ends_with_another_status_than_a_mistake",
    ),
    Mutant(
        "a start that the kernel refuses is a bug",
        DAEMON,
        "    except _Refused as error:\n        print(error, file=sys.stderr)\n        return _not_now()\n",
        "    except _Refused:\n        return OUR_BUG\n",
        f"{OF_DAEMON}a_start_that_netlink_refuses_says_so_and_is_tried_again",
    ),
    Mutant(
        "without a descriptor for a client the daemon ends",
        CONTROL,
        "self.cannot_accept(error)",
        "raise",
        f"{OF_DAEMON}a_client_for_whom_there_is_no_descriptor_is_a_problem_until_there_is_one",
    ),
    Mutant(
        "a stop that comes early ends the process at once",
        "cli.py",
        "signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))",
        "signal.pthread_sigmask(signal.SIG_BLOCK, ())",
        f"{OF_DAEMON}a_stop_that_comes_before_it_listens_waits_and_releases_what_a_predecessor_left",
    ),
    # State that outlives the process
    Mutant(
        "a state file of nonsense ends the daemon",
        DISK,
        "except (ValueError, RecursionError) as error:",
        "except ValueError as error:",
        "host/test_disk.py::test_nonsense_is_told_and_mended_by_the_next_write",
    ),
    Mutant(
        "a FIFO in the place of the state is waited for",
        DISK,
        "os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY",
        "os.O_RDONLY | os.O_NOCTTY",
        "host/test_disk.py::test_a_fifo_in_the_place_of_the_state_is_not_waited_for",
    ),
    Mutant(
        "the state of another boot counts",
        DISK,
        'state is not None and state["boot"] == self._boot',
        "state is not None",
        "host/test_disk.py::test_what_is_of_another_boot_is_forgotten",
    ),
    Mutant(
        "a daemon that keeps crashing is master all the same",
        STARTS,
        "return WINDOW if len(starts) >= LIMIT else 0.0",
        "return 0.0",
        "host/test_starts.py::test_the_third_start_in_a_minute_is_barred_and_so_is_each_further_one",
    ),
    # systemd and scheduling
    Mutant(
        "a long stop asks systemd for no more time",
        SYSTEMD,
        "is_long = seconds > STOP_MARGIN / 2",
        "is_long = False",
        "host/test_systemd.py::test_systemd_is_told_each_step",
    ),
    Mutant(
        "checks may speak to systemd for the daemon",
        SYSTEMD,
        'os.environ.pop("NOTIFY_SOCKET", "")',
        'os.environ.get("NOTIFY_SOCKET", "")',
        "host/test_systemd.py::test_children_do_not_inherit_the_right_to_speak_for_us",
    ),
    Mutant(
        "checks have the capabilities of the daemon",
        "host/privileges.py",
        "    if os.geteuid() == 0:\n        return\n",
        "    return\n",
        f"{OF_DAEMON}checks_and_hooks_of_the_service_user_have_no_capabilities",
    ),
    # Notify command and keepalived's words
    Mutant(
        "a command that a reload removed fails all the same",
        HOOKS,
        "if argv != self._command(change):",
        "if False:",
        "host/test_hooks.py::test_a_reload_while_the_command_runs_is_survived_and_its_failure_is_nobodys",
    ),
    Mutant(
        "words from before keepalived began are heard",
        WORDS,
        "if sender.began < self._process_began:",
        "if False:",
        f"{OF_KEEPALIVED}a_notify_from_before_keepalived_began_is_no_news_of_it",
    ),
    Mutant(
        "keepalived may name any number of instances",
        WORDS,
        "while len(self._said) > MOST_SUBJECTS:",
        "while False:",
        f"{OF_KEEPALIVED}of_more_names_than_can_be_meant_only_some_are_remembered",
    ),
    Mutant(
        "words of a successor count as those of the dead one",
        "host/keepalived/elector.py",
        "self._processes.look(partial(self._words.hear, lines, is_old))",
        "self._words.hear(lines, is_old)",
        f"{OF_KEEPALIVED}what_a_successor_said_while_we_slept_is_not_taken_for_the_last_words",
    ),
    # The command line
    Mutant(
        "status --watch ends with the daemon",
        "status.py",
        "except NotAllowed:\n            raise  # which time does not change",
        "except ControlError:\n            raise",
        "host/test_status_command.py::test_watch_with_json_leaves_stdout_to_json",
    ),
)
