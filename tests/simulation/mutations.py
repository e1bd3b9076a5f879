"""One-line mistakes that somebody could make in the program, each of which must be noticed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """A mistake.

    Args:
        name: What it is, for the table.
        file: In which file of the package.
        old: The line, or lines around it that make it unique; it must be there exactly once.
        new: What stands there instead.
        test: The test that notices what no history can show: a pytest node ID.
    """

    name: str
    file: str
    old: str
    new: str
    test: str = ""


MUTATIONS = (
    Mutation(
        "acknowledge before update",
        "pipeline/process.py",
        "if isinstance(claim, Claim) and not await deliver(claim, pipeline):",
        "if isinstance(claim, Claim) and [await pipeline.stream.ack(entry)] and not await deliver(claim, pipeline):",
    ),
    Mutation(
        "an answer believed whatever it calls itself",
        "backends/opensearch/answers.py",
        'if _content_type(answer.response) != "application/json":',
        "if False:",
        test="tests/unit/backends/opensearch/test_client.py::test_a_node_with_something_else_in_front_rests",
    ),
    Mutation(
        "a proxy's refusal taken for the server's",
        "backends/opensearch/answers.py",
        "return error if own.status == response.status_code else None",
        "return error",
        test="tests/unit/backends/opensearch/test_client.py::test_a_refusal_in_the_name_of_another_status_is_none",
    ),
    Mutation(
        "an empty answer taken for a missing index",
        "backends/opensearch/indices.py",
        "found = await self._ask_for(name, ignore_unavailable=False)",
        "pass",
        test="tests/unit/backends/opensearch/test_front.py",
    ),
    Mutation(
        "items of another request believed",
        "backends/opensearch/bulk.py",
        "if item is None or item.id != write.record.id:",
        "if item is None:",
        test="tests/unit/backends/opensearch/test_bulk.py",
    ),
    Mutation(
        "a loop without a pause",
        "pipeline/outage.py",
        "await self.pause(min(FIRST_WAIT_S * 2.0 ** min(paused - 1, 16), LONGEST_WAIT_S), give_up)",
        "await trio.sleep(0.001)",
        test="tests/unit/pipeline/test_rounds.py",
    ),
    Mutation(
        "a record changed by hand believed",
        "record.py",
        "delivery = read_delivery(stored)",
        "delivery = msgspec.convert(stored, Delivery)",
        test="tests/unit/pipeline/test_unreadable.py",
    ),
    Mutation(
        "a newer version's record quarantined",
        "pipeline/process.py",
        "return await _leave_alone(entry, fault, pipeline)",
        'return await quarantine(entry, ParseFault("unreadable_record", str(fault)), pipeline)',
    ),
    Mutation(
        "a newer version's record counted against its entry",
        "pipeline/process.py",
        "await pipeline.patient_stream.refund(entry)",
        "pass",
        test="tests/unit/pipeline/test_newer_records.py",
    ),
    Mutation(
        "a newer version's record counted once more after an outage",
        "pipeline/process.py",
        "pipeline.in_flight.refunded.discard(entry.record_id)",
        "pass",
        test="tests/unit/pipeline/test_newer_records.py",
    ),
    Mutation(
        "a newer version's fields read past",
        "delivery.py",
        "class ChannelDelivery(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):",
        "class ChannelDelivery(Struct, frozen=True, omit_defaults=True):",
        test="tests/unit/test_alert.py",
    ),
    Mutation(
        "a fallback engaged while a primary may still accept",
        "record_state.py",
        'if all(one.state == "failed" for one in in_need) or channel.is_due(now):',
        'if any(one.state == "failed" for one in in_need) or channel.is_due(now):',
        test="tests/unit/test_record_state.py",
    ),
    Mutation(
        "a fallback spared whose receiver may have seen half of it",
        "record_state.py",
        "may_be_seen = channel.in_doubt > 0 or",
        "may_be_seen =",
        test="tests/unit/test_record_state.py",
    ),
    Mutation(
        "a doubt that a fallback made good holds the record up",
        "record_state.py",
        'or (channel.state == "in_doubt" and _made_good(channel, channels))',
        "or False",
        test="tests/unit/test_record_state.py",
    ),
    Mutation(
        "a wait without an end",
        "held_back.py",
        "since = channel.since or now",
        "since = now",
        test="tests/unit/test_held_back.py",
    ),
    Mutation(
        "a damaged file waited for",
        "backends/sqlite/store.py",
        'if getattr(fault, "sqlite_errorcode", 0) & 0xFF in DAMAGED:',
        "if False:",
        test="tests/unit/backends/sqlite/test_store.py",
    ),
    Mutation(
        "create without conflict check",
        "backends/opensearch/bulk.py",
        'kind: Literal["create", "index"] = "create"',
        'kind: Literal["create", "index"] = "index"',
    ),
    Mutation(
        "claim without condition",
        "backends/opensearch/bulk.py",
        'condition = {"_id": record.id, "if_seq_no": version[0], "if_primary_term": version[1]}',
        'condition = {"_id": record.id}',
    ),
    Mutation(
        "redrive on a search result",
        "pipeline/redriver.py",
        'if delivery.state == "retrying" and any(one.is_due(now) and one.name in through for one in delivery.channels)',
        'if delivery.state != "sending"',
    ),
    Mutation(
        "redrive what somebody else has claimed",
        "pipeline/claim.py",
        "if current is None or current.record.delivery.owner != owner or not current.record.delivery.sending():",
        "if current is None or not current.record.delivery.sending():",
    ),
    Mutation(
        "redriver ignores pending entries",
        "pipeline/redriver.py",
        "if due.id not in pending and due.id not in pipeline.in_flight:",
        "if due.id not in pipeline.in_flight:",
    ),
    Mutation(
        "keep-alive off",
        "pipeline/keepalive.py",
        "await renew(pipeline, pipeline.settings.keepalive_s)",
        "await trio.lowlevel.checkpoint()",
    ),
    Mutation(
        "no gap check in the claimer", "pipeline/claimer.py", "if jump_s or now_s - seen_at_s > gap_s:", "if False:"
    ),
    Mutation(
        "lease too short",
        "pipeline/claim.py",
        "first_attempt(decision.channels, owner, pipeline.clock.now(), pipeline.settings.lease_s)",
        "first_attempt(decision.channels, owner, pipeline.clock.now(), 1.0)",
    ),
    Mutation(
        "no fresh lease before the send",
        "pipeline/process.py",
        "while trio.current_time() - claim.stamped_at_s >= pipeline.send_within_s:",
        "while False:",
    ),
    Mutation(
        "producer's bytes in a bulk body",
        "alert.py",
        "body = render_body(event, payload, origin)",
        'body = b"%b,%b" % (written.rstrip()[:-1], encode(origin)[1:])',
    ),
    Mutation("own conflict not recognised", "pipeline/claim.py", "if delivery.owner == owner:", "if False:"),
    Mutation(
        "owner token not unique to the process",
        "pipeline/state.py",
        'return f"{self.settings.consumer}/{self._run}/{next(self._attempts)}"',
        'return f"{self.settings.consumer}/{next(self._attempts)}"',
    ),
    Mutation(
        "a living owner's record taken over",
        "pipeline/claim.py",
        "return entry.claimed and await pipeline.stream_outage.outlast(",
        "return await pipeline.stream_outage.outlast(",
    ),
    Mutation(
        "a living owner's entry acknowledged",
        "pipeline/claim.py",
        'if delivery.state == "sending" and not await _owner_is_gone(entry, delivery, pipeline):\n'
        "            return Disposition.WALK_AWAY",
        'if delivery.state == "sending" and not await _owner_is_gone(entry, delivery, pipeline):\n'
        "            return Disposition.ACKNOWLEDGE",
    ),
    Mutation("a stale owner acknowledges", "pipeline/process.py", 'return state != "sending"', "return True"),
    Mutation(
        "acceptance not merged",
        "pipeline/attempt.py",
        "merged = with_acceptances(theirs, after, pipeline.clock.now())",
        "merged = None",
    ),
    Mutation(
        "shield removed",
        "batcher.py",
        "if held:",
        "if False:",
        "tests/unit/test_batcher.py::test_a_held_write_is_not_given_up_by_a_cancellation",
    ),
    Mutation(
        "started entries handed over",
        "pipeline/service.py",
        "await _hand_over(pipeline.in_flight.started, pipeline)",
        "await _hand_over((), pipeline)",
    ),
    Mutation("an ID given to two workers", "pipeline/in_flight.py", "if record_id in self._held:", "if False:"),
    Mutation(
        "quarantine not atomic",
        "pipeline/quarantine.py",
        "if not await pipeline.patient_stream.quarantine(",
        "if not await pipeline.stream.ack(entry) and not await pipeline.patient_stream.quarantine(",
    ),
    Mutation(
        "bystanders quarantined with a poison entry",
        "pipeline/claimer.py",
        "    return [*chosen, again[0]], again[0]",
        "    return chosen + again, again[0]",
    ),
    Mutation(
        "own pending entries taken, suspects and all",
        "backends/redis/stream.py",
        "if one.record_id not in holding and not is_suspect(one)]",
        "if one.record_id not in holding]",
        "tests/unit/pipeline/test_claimer.py::test_a_suspect_under_our_own_name_is_left_to_the_claimer",
    ),
    Mutation(
        "quarantined although delivered",
        "pipeline/quarantine.py",
        'if existing.record.delivery.state != "sending":',
        "if False:",
        "tests/unit/pipeline/test_process.py::test_a_redelivery_of_what_has_an_outcome_is_acknowledged_without_a_send",
    ),
    Mutation(
        "an outage taken for a refusal",
        "backends/opensearch/bulk.py",
        "if item.status == HTTPStatus.BAD_REQUEST and (",
        "if item.status >= HTTPStatus.BAD_REQUEST or (",
    ),
    Mutation(
        "a takeover not marked in doubt",
        "transitions.py",
        "            in_doubt=channel.in_doubt + 1,\n",
        "            in_doubt=channel.in_doubt,\n",
    ),
    Mutation(
        "a lapsed lease not marked in doubt",
        "transitions.py",
        '(Retry("the worker died before it stored the outcome", unseen=True), 0.0)',
        '(Retry("the worker died before it stored the outcome"), 0.0)',
    ),
    Mutation(
        "a front's answer not marked in doubt",
        "http/status.py",
        "None, status in UNSEEN_STATUSES, answer",
        "None, status in {502, 504}, answer",
    ),
    Mutation(
        "a time-out not marked in doubt",
        "pipeline/attempt.py",
        'outcome = Retry(f"no answer within {pipeline.settings.send_timeout_s:g} s", unseen=True)',
        'outcome = Retry(f"no answer within {pipeline.settings.send_timeout_s:g} s")',
    ),
    Mutation(
        "`hold` ignored at a takeover",
        "transitions.py",
        'state="in_doubt" if channel.name in policy.hold else "sending",',
        'state="sending",',
    ),
    Mutation(
        "an accepted channel sent to again",
        "transitions.py",
        "if channel.is_due(now) and (through is None or channel.name in through)",
        "if True",
    ),
    Mutation(
        "a message ID used again is merged",
        "pipeline/claim.py",
        "if existing.record.content_sha256 != alert.content_sha256:",
        "if False:",
        "tests/unit/pipeline/test_process.py::test_a_message_id_used_again_is_quarantined_and_its_record_untouched",
    ),
    Mutation(
        "a wait for the store counts as work",
        "pipeline/refund.py",
        "await _count(waiting, False, pipeline)",
        "await trio.lowlevel.checkpoint()",
    ),
    Mutation(
        "what was refunded in a wait never counts again",
        "pipeline/refund.py",
        "await _count(in_flight.entries(going_on), True, pipeline)",
        "await trio.lowlevel.checkpoint()",
        "tests/unit/pipeline/test_refund.py::test_the_delivery_counts_again_when_the_work_goes_on",
    ),
    Mutation(
        "a delivery refunded twice",
        "pipeline/service.py",
        "count = await pipeline.stream.hand_over(keeping, pipeline.in_flight.refunded)",
        "count = await pipeline.stream.hand_over(keeping)",
        "tests/unit/pipeline/test_refund.py::test_a_wait_takes_back_one_delivery_and_a_stop_no_second",
    ),
    Mutation(
        "a fault is held against everybody",
        "pipeline/service.py",
        "            await _hand_over(pipeline.in_flight.blamed, pipeline)\n            await _leave(pipeline)",
        "            await _leave(pipeline)",
        "tests/unit/pipeline/test_refund.py::test_a_fault_of_a_worker_is_held_against_its_entry_alone",
    ),
    Mutation(
        "a fault is held against nobody",
        "pipeline/worker.py",
        "pipeline.in_flight.blamed.add(work.record_id)",
        "pass",
        "tests/unit/pipeline/test_refund.py::test_a_fault_of_a_worker_is_held_against_its_entry_alone",
    ),
    Mutation(
        "an unexpected answer ends the process",
        "pipeline/outage.py",
        "if tries >= UNFORESEEN_TRIES and self._finished() > finished:",
        "if True:",
        "tests/unit/pipeline/test_refund.py::test_25_deaths_of_a_worker_whose_store_is_away_quarantine_nothing",
    ),
    Mutation(
        "what has a record comes back one at a time",
        "pipeline/claimer.py",
        "recorded = await _recorded(again, pipeline)",
        "recorded: set[str] = set()",
        "tests/unit/pipeline/test_poison.py::test_what_two_crashes_left_behind_comes_back_at_once_if_it_has_a_record",
    ),
    Mutation(
        "a suspect with a record is sent at once, with all others",
        "pipeline/claim.py",
        'if delivery.state == "sending" and entry.deliveries >= SUSPECT_DELIVERIES:',
        "if False:",
        "tests/unit/pipeline/test_poison.py::test_an_alert_that_kills_whoever_sends_it_has_failed",
    ),
    Mutation(
        "a retry kills processes for ever",
        "transitions.py",
        "if cuts < policy.max_cuts:",
        "if True:",
        "tests/unit/pipeline/test_poison.py::test_an_alert_that_kills_whoever_sends_it_has_failed",
    ),
    Mutation(
        "suspects among retries sent side by side",
        "pipeline/redriver.py",
        "if delivery.cuts >= SUSPECT_CUTS:",
        "if False:",
        "tests/unit/pipeline/test_redriver.py::test_suspects_are_sent_one_at_a_time",
    ),
    Mutation(
        "an exception out of a channel ends the process",
        "pipeline/attempt.py",
        "        except Exception as fault:  # noqa: BLE001",
        "        except ArithmeticError as fault:  # noqa: BLE001",
        "tests/unit/pipeline/test_process.py::test_an_exception_out_of_a_channel_is_its_attempt_s_outcome",
    ),
    Mutation(
        "abandoned entries wait for the end of a backlog",
        "pipeline/claimer.py",
        "turn.reserve(len(chosen))",
        "await trio.lowlevel.checkpoint()",
    ),
    Mutation(
        "new entries wait for the last abandoned one",
        "pipeline/claimer.py",
        "if in_flight.news != self._news:",
        "if True:",
        "tests/unit/pipeline/test_claimer.py::test_abandoned_entries_get_their_share_under_a_backlog",
    ),
    Mutation(
        "a look that finds nothing keeps a worker",
        "pipeline/claimer.py",
        "if chosen and not in_flight.free:\n        turn.reserve(len(chosen))",
        "if not in_flight.free:\n        turn.reserve(1)",
        "tests/unit/pipeline/test_claimer.py::test_a_look_that_finds_nothing_costs_no_worker",
    ),
    Mutation(
        "any failure of the store begins the wait for owners anew",
        "pipeline/uptime.py",
        "self.in_gap, self._gap_since_s = True, trio.current_time()",
        "self.in_gap, self._gap_since_s = True, trio.current_time()\n            self._since_s = self._gap_since_s",
    ),
    Mutation(
        "wrong DNS refused for good",
        "channels/http.py",
        "return Refused(str(refusal)) if refusal.for_good else Retry(str(refusal), needs_human=True)",
        "return Refused(str(refusal))",
        "tests/unit/channels/test_http.py::test_wrong_dns_fails_no_alert_for_good",
    ),
    Mutation(
        "those that two deaths have spared meet a suspect",
        "pipeline/claimer.py",
        "return chosen + survivors, None",
        "return chosen + again, None",
    ),
    Mutation(
        "a child heeds what its whole group is sent",
        "stop_signals.py",
        "signal.signal(one, self._end if child_number() is None else signal.SIG_IGN)",
        "signal.signal(one, self._end)",
        "tests/unit/test_stop_signals.py::test_a_child_leaves_signals_to_its_parent",
    ),
    Mutation(
        "signals are caught after the imports",
        "__main__.py",
        "EARLY.catch(sys.argv)",
        "EARLY.catch([])",
        "tests/unit/test_stop_signals.py::test_a_service_that_is_being_started_stops",
    ),
    Mutation(
        "a restart gives up on a backend that is away",
        "supervisor.py",
        "code in FATAL_CODES and not (code == StartError.exit_code and starts > 1)",
        "code in FATAL_CODES",
        "tests/unit/test_supervisor.py::test_a_backend_that_is_away_at_a_restart_is_waited_for",
    ),
    Mutation(
        "a child that is stopped holds up its parent",
        "supervisor.py",
        '            os.write(child.stdin.fileno(), b".")\n    child.send_signal(signal.SIGCONT)',
        '            os.write(child.stdin.fileno(), b".")',
        "tests/unit/test_supervisor.py::test_a_child_that_is_stopped_does_not_hold_up_the_parent",
    ),
    Mutation(
        "a log that nobody reads fills the memory",
        "log_sink.py",
        "if self._closed or self._bytes + len(data) > MOST_BYTES:",
        "if self._closed:",
        "tests/unit/test_log_sink.py::test_nobody_waits_for_a_reader",
    ),
    Mutation(
        "a channel that is down is said once",
        "pipeline/reporter.py",
        "health.report(trio.current_time(), None if waiting is None else waiting.get(name, 0))",
        "pass",
        "tests/unit/pipeline/test_channel_health.py::test_a_channel_that_is_down_is_said_each_minute",
    ),
    Mutation(
        "a hanging channel takes every slot for retries",
        "pipeline/redriver.py",
        "return not redriving[channel] or free > without",
        "return True",
        "tests/unit/pipeline/test_redriver.py::test_a_hanging_channel_holds_up_no_other_channel_s_retries",
    ),
    Mutation("another deployment's store is used", "deployment.py", "if theirs is None or theirs == ours:", "if True:"),
    Mutation(
        "an identity that is gone is not written back",
        "pipeline/guard.py",
        "            await pipeline.stream.guard()\n",
        "",
        "tests/unit/pipeline/test_deployment.py::test_an_identity_that_is_deleted_is_written_back",
    ),
    Mutation(
        "a store that was taken over is used on",
        "pipeline/guard.py",
        "            refuse_contradiction(await",
        "            (await",
        "tests/unit/pipeline/test_deployment.py::test_whoever_was_taken_over_from_stops",
    ),
    Mutation(
        "an identity before the look at the other's",
        "pipeline/service.py",
        "    await refuse_foreign(pipeline.stream, pipeline.store)\n",
        "",
        "tests/unit/pipeline/test_deployment.py::test_a_message_names_both",
    ),
    Mutation(
        "a clock that was set is no gap",
        "pipeline/claimer.py",
        "if jump_s or now_s - seen_at_s > gap_s:",
        "if now_s - seen_at_s > gap_s:",
        "tests/unit/pipeline/test_clock_jumps.py::test_nobody_is_taken_for_dead",
    ),
    Mutation(
        "retries depend on a lock",
        "pipeline/turn.py",
        "return trio.current_time() - self._last_s >= self._patience_s",
        "return False",
        "tests/unit/pipeline/test_clock_jumps.py::test_retries_go_on",
    ),
    Mutation(
        "a lease lapses by a clock that was set",
        "clock.py",
        "return until <= self.now() and self._monotonic() - self._forward_at_s >= lease_s",
        "return until <= self.now()",
        "tests/unit/pipeline/test_clock_jumps.py::test_a_retry_that_is_being_sent_is_nobody_elses",
    ),
)
