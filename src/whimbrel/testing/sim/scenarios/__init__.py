"""Directed scenarios: exact interleavings, each with the rules of the protocol that make it end well."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from whimbrel.engine.options import EngineOptions
from whimbrel.engine.rules import ALL_RULES, ProtocolRules
from whimbrel.storage.base import ObjectStore
from whimbrel.testing.sim.scenarios import (
    conditions,
    fences,
    forks,
    guesses,
    jobs,
    lifecycle,
    log,
    pages,
)
from whimbrel.testing.sim.simulation import small_query_pages
from whimbrel.testing.sim.stage import STAGE_OPTIONS, Stage
from whimbrel.testing.sim.world import Conditions

__all__ = ["SCENARIOS", "Scenario", "play"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario.

    Attributes:
        play: what happens.
        breaks_without: switches of `ProtocolRules` each of which, removed, makes it end badly.
        options: limits of its processes.
    """

    play: Callable[[Stage], Awaitable[None]]
    breaks_without: tuple[str, ...] = ()
    options: EngineOptions = field(default=STAGE_OPTIONS)

    @property
    def name(self) -> str:
        """What to call it."""
        return str(getattr(self.play, "__name__", "scenario")).replace("_", " ")


_BACKGROUND = replace(STAGE_OPTIONS, refresh_interval_s=1.5)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(play=log.idle_reader_after_collection, breaks_without=("prove_absence",)),
    Scenario(play=log.writer_stalled_across_collection, breaks_without=("check_after_create",)),
    Scenario(play=log.confirmation_after_adoption),
    Scenario(play=log.ambiguous_put_lands_late),
    Scenario(play=log.ambiguous_put_is_overtaken),
    Scenario(play=log.own_put_is_recognised),
    Scenario(play=log.reader_on_an_older_manifest, breaks_without=("log_follows_oldest_manifest",)),
    Scenario(play=log.pair_during_the_wait, breaks_without=("wait_before_collecting",)),
    Scenario(play=log.pair_longer_than_the_wait, breaks_without=("discard_slow_proofs",)),
    Scenario(play=log.long_tail_collected_while_read, breaks_without=("discard_slow_proofs",)),
    Scenario(play=log.zombie_terminal_fragment),
    Scenario(
        play=log.late_writer_leaves_a_mark,
        breaks_without=("mark_after_flush",),
        options=_BACKGROUND,
    ),
    Scenario(play=jobs.indexer_dies_while_flushing, breaks_without=("upload_before_naming",)),
    Scenario(play=jobs.collection_of_an_expired_manifest, breaks_without=("keep_what_is_named",)),
    Scenario(play=jobs.collection_of_a_quiet_index, breaks_without=("manifests_ascend",)),
    Scenario(play=jobs.job_outlives_orphan_collection, breaks_without=("bar_late_jobs",)),
    Scenario(play=jobs.publisher_sleeps_before_its_check),
    Scenario(play=jobs.compactor_sleeps_before_its_check),
    Scenario(play=jobs.zombie_manifest_is_not_adopted, breaks_without=("adopt_only_successors",)),
    Scenario(play=jobs.zombie_manifest_names_a_living_job),
    Scenario(play=jobs.zombie_manifest_is_ahead_of_the_log),
    Scenario(play=jobs.newest_manifest_is_created_again),
    Scenario(play=jobs.two_zombie_manifests),
    Scenario(play=jobs.two_collectors),
    Scenario(play=jobs.compaction_against_flushes),
    Scenario(play=jobs.round_against_flushes),
    Scenario(play=jobs.two_indexers_in_one_round),
    Scenario(play=jobs.round_sleeps_through_a_collection, breaks_without=("bar_late_jobs",)),
    Scenario(
        play=lifecycle.deletion_against_a_cached_index,
        breaks_without=("name_incarnations", "end_log_on_delete"),
    ),
    Scenario(play=lifecycle.deletion_against_a_stalled_writer),
    Scenario(play=lifecycle.put_confirmed_after_deletion, breaks_without=("check_after_create",)),
    Scenario(play=lifecycle.put_seen_before_deletion),
    Scenario(play=lifecycle.put_refused_by_a_deletion, breaks_without=("end_log_on_delete",)),
    Scenario(
        play=lifecycle.deletion_confirmed_after_deletion, breaks_without=("check_after_create",)
    ),
    Scenario(
        play=lifecycle.creation_confirmed_after_deletion, breaks_without=("check_after_create",)
    ),
    Scenario(play=lifecycle.deletion_is_cut_off),
    Scenario(play=lifecycle.deletion_lacks_its_record),
    Scenario(play=lifecycle.two_deleters_and_a_creator),
    Scenario(play=lifecycle.half_a_deletion),
    Scenario(play=lifecycle.two_creators),
    Scenario(play=lifecycle.creation_outlives_the_collector, breaks_without=("bar_late_jobs",)),
    Scenario(
        play=lifecycle.bucket_creation_outlives_the_collector, breaks_without=("bar_late_jobs",)
    ),
    Scenario(play=lifecycle.deletion_of_a_bucket_against_a_creator),
    Scenario(play=lifecycle.look_up_begun_before_a_creation),
    Scenario(play=lifecycle.zombie_catalog_records),
    Scenario(play=lifecycle.overtaken_snapshot_publisher),
    Scenario(play=lifecycle.opener_finds_a_zombie),
    Scenario(play=lifecycle.stalled_snapshot_publisher),
    Scenario(play=lifecycle.reader_of_a_deleted_bucket),
    Scenario(play=lifecycle.zombie_catalog_of_a_bucket),
    Scenario(play=fences.fence_against_a_cached_index, breaks_without=("end_log_on_delete",)),
    Scenario(play=fences.fence_against_a_stalled_writer, breaks_without=("check_after_create",)),
    Scenario(play=fences.manifest_behind_a_fence),
    Scenario(play=fences.manifest_before_a_fence_is_cleared),
    Scenario(play=fences.half_a_fence),
    Scenario(play=guesses.hint_of_a_deleted_index, breaks_without=("prove_guesses",)),
    Scenario(play=guesses.hint_of_an_earlier_life, breaks_without=("prove_guesses",)),
    Scenario(play=guesses.catalog_of_an_earlier_life, breaks_without=("prove_guesses",)),
    Scenario(play=guesses.reborn_behind_a_guess, breaks_without=("prove_guesses",)),
    Scenario(play=guesses.deleted_bucket_behind_a_guess, breaks_without=("prove_guesses",)),
    Scenario(play=guesses.hint_is_damaged),
    Scenario(
        play=forks.fork_sleeps_before_its_pin,
        breaks_without=("check_after_pin", "pin_before_naming"),
    ),
    Scenario(
        play=forks.fork_between_the_halves_of_a_collection, breaks_without=("read_pins_late",)
    ),
    Scenario(play=forks.pin_on_its_way_is_weeded, breaks_without=("hold_before_pinning",)),
    Scenario(play=forks.fork_rewrites_its_segments, breaks_without=("collect_only_own",)),
    Scenario(play=forks.source_is_deleted),
    Scenario(play=forks.fork_outlives_the_collector, breaks_without=("bar_late_jobs",)),
    Scenario(play=forks.restore_against_writers),
    Scenario(play=forks.restore_is_cut_off),
    Scenario(play=forks.restore_against_a_deletion),
    Scenario(play=forks.deletion_against_a_restore),
    Scenario(play=forks.restore_outlives_the_collector, breaks_without=("bar_late_jobs",)),
    Scenario(play=conditions.update_against_a_put, breaks_without=("compare_before_naming",)),
    Scenario(play=conditions.update_against_a_deletion, breaks_without=("compare_before_naming",)),
    Scenario(play=conditions.update_against_a_flush, breaks_without=("compare_before_naming",)),
    Scenario(play=conditions.update_into_the_past, breaks_without=("check_after_create",)),
    Scenario(play=pages.page_across_everything),
    Scenario(play=pages.page_of_an_old_manifest),
    Scenario(play=pages.page_across_a_slow_collector),
    Scenario(play=pages.expired_page),
)


def play(
    scenario: Scenario,
    *,
    rules: ProtocolRules = ALL_RULES,
    options: EngineOptions | None = None,
    conditions: Conditions | None = None,
    wrap: Callable[[ObjectStore], ObjectStore] | None = None,
) -> list[str]:
    """Plays one scenario; returns what went wrong, empty when nothing did.

    Args:
        scenario: which.
        rules: of the protocol.
        options: limits instead of the scenario's own.
        conditions: of its processes; a remote store without latency when None.
        wrap: put around each process's store.
    """
    conditions = conditions or Conditions()
    if wrap is not None:
        conditions = replace(conditions, wrap=wrap)
    stage = Stage(rules, options=options or scenario.options, conditions=conditions)
    with small_query_pages():
        return stage.play(scenario.play)
