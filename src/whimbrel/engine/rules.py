"""The protocol's rules as switches, so that tests can show what each of them prevents.

Production code never builds this object with an argument: every rule is always on. The simulation removes one
rule at a time and must then find a violation; the records in `docs/adr` number them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolRules:
    """One flag a rule; True means the rule holds.

    Attributes:
        upload_before_naming: an object is durable before a manifest mentions it (1).
        keep_what_is_named: the collector deletes nothing that an existing manifest names (1).
        prove_absence: an absent log name counts only while the manifest one stands on exists (2).
        check_after_create: a created log name counts only while the manifest one stands on exists (2).
        log_follows_oldest_manifest: log objects above the oldest manifest's position are kept (2).
        manifests_ascend: manifests are deleted in ascending order and never the newest (2).
        adopt_only_successors: a newer manifest is adopted only while the older one still exists (2).
        wait_before_collecting: the collector waits between a manifest and what only it protected (3).
        discard_slow_proofs: a proof that took too long is taken again (3).
        bar_late_jobs: a job older than the barrier gives up (5).
        name_incarnations: every creation has names of its own (6).
        end_log_on_delete: DeleteIndex ends the index's log, or fences it, before its catalog record (6).
        mark_after_flush: a tail that outlives a flush is marked again (7).
        prove_guesses: an incarnation that was guessed is used only once the catalog has named it (8).
        compare_before_naming: a write that stands on what was read is compared with the log up to its own name (9).
        pin_before_naming: a fork or snapshot is named only when its pins are durable (10).
        check_after_pin: a pin counts only if the manifest that names the objects exists after the put (10).
        hold_before_pinning: a pin is put only when its hold is durable (10).
        read_pins_late: a collector reads pins when all manifests that named the objects are gone (10).
        collect_only_own: the collector of an index deletes no object of another (10).
    """

    upload_before_naming: bool = True
    keep_what_is_named: bool = True
    prove_absence: bool = True
    check_after_create: bool = True
    log_follows_oldest_manifest: bool = True
    manifests_ascend: bool = True
    adopt_only_successors: bool = True
    wait_before_collecting: bool = True
    discard_slow_proofs: bool = True
    bar_late_jobs: bool = True
    name_incarnations: bool = True
    end_log_on_delete: bool = True
    mark_after_flush: bool = True
    prove_guesses: bool = True
    compare_before_naming: bool = True
    pin_before_naming: bool = True
    check_after_pin: bool = True
    hold_before_pinning: bool = True
    read_pins_late: bool = True
    collect_only_own: bool = True


ALL_RULES = ProtocolRules()
