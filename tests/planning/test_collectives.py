"""Collectives of programs written by hand: how many, and how many bytes they send."""

import re

import pytest

from rejepa_jax.planning.collectives import collectives
from rejepa_jax.planning.hlo import parse

PROGRAM = """HloModule step

%layer (p: f32[4]) -> f32[4] {{
  %p = f32[4]{{0}} parameter(0)
  ROOT %sum = f32[4]{{0}} all-reduce(%p), replica_groups=[2,4]<=[8], to_apply=%add
}}

%until (q: f32[4]) -> pred[] {{
  %q = f32[4]{{0}} parameter(0)
  ROOT %done = pred[] constant(false)
}}

ENTRY %main (a: f32[4], b: bf16[6]) -> f32[4] {{
  %a = f32[4]{{0}} parameter(0)
  %b = bf16[6]{{0}} parameter(1)
  {line}
  ROOT %loop = f32[4]{{0}} while(%a), condition=%until, body=%layer, {trips}
}}
"""
TRIPS = 'backend_config={"known_trip_count":{"n":"3"}}'
ALL = "replica_groups=mesh['axis_0'=2,'axis_1'=4,'axis_2'=1] {'axis_0','axis_1'}"


def read(line):
    return {
        (part.kind, part.group): part
        for part in collectives(parse(PROGRAM.format(line=line, trips=TRIPS)), 8)
    }


def test_a_reduction_in_a_loop_counts_each_time():
    (part,) = read("").values()
    # Three times 16 bytes over four devices; in a ring each sends 3/4 of them twice.
    assert (part.kind, part.group, part.count, part.payload) == ("all-reduce", 4, 3, 48)
    assert part.sent == pytest.approx(72.0)


@pytest.mark.parametrize(
    ("line", "group", "payload", "sent"),
    [
        (f"%c = (f32[4], bf16[6]) all-reduce(%a, %b), {ALL}", 8, 28, 2 * 7 / 8 * 28),
        ("%c = f32[32] all-gather(%a), replica_groups={{0,1,2,3,4,5,6,7}}", 8, 128, 112.0),
        ("%c = (f32[4], f32[32]) all-gather-start(%a), replica_groups=[1,8]<=[8]", 8, 128, 112.0),
        ("%c = f32[2] reduce-scatter(%a), replica_groups={{0,1},{2,3}}", 2, 16, 8.0),
        ("%c = f32[4] all-to-all(%a), replica_groups={{0,1,2,3}}", 4, 16, 12.0),
        ("%c = f32[4] collective-permute(%a), source_target_pairs={{0,1}}", 8, 16, 16.0),
    ],
)
def test_each_kind_by_hand(line, group, payload, sent):
    kind = re.search(r"([a-z-]+?)(-start)?\(%a", line)[1]
    part = read(line)[kind, group]
    assert (part.count, part.payload) == (1, payload)
    assert part.sent == pytest.approx(sent)


def test_what_is_done_later_is_not_counted_twice():
    begun = "%c = (f32[4], f32[32]) all-gather-start(%a), replica_groups=[1,8]<=[8]"
    done = begun + "\n  %d = f32[32] all-gather-done(%c)"
    assert read(begun) == read(done)


def test_a_group_of_one_sends_nothing():
    alone = "%c = f32[4] all-reduce(%a), replica_groups={{0},{1}}"
    assert read(alone) == read("")


def test_types_are_told():
    part = read(f"%c = (f32[4], bf16[6]) all-reduce(%a, %b), {ALL}")["all-reduce", 8]
    assert part.dtypes == ("bf16", "f32")


ASYNC = """HloModule step

%begin (p: f32[4]) -> f32[32] {
  %p = f32[4]{0} parameter(0)
  ROOT %g.1 = f32[32]{0} all-gather(%p), channel_id=3, replica_groups={{0,1,2,3,4,5,6,7}}
}

%middle (q: f32[4]) -> f32[32] {
  %q = f32[4]{0} parameter(0)
  ROOT %g.2 = f32[32]{0} all-gather(%q), channel_id=3, replica_groups={{0,1,2,3,4,5,6,7}}
}

ENTRY %main (a: f32[4]) -> f32[32] {
  %a = f32[4]{0} parameter(0)
  %b = f32[32]{0} fusion(%a), kind=kCustom, calls=%begin
  ROOT %c = f32[32]{0} fusion(%a), kind=kOutput, calls=%middle
}
"""


def test_one_that_goes_on_through_several_fusions_is_one():
    (part,) = collectives(parse(ASYNC), 8)
    assert (part.count, part.payload) == (1, 128)
    assert collectives(parse(ASYNC.replace("channel_id=3", "channel_id=4", 1)), 8)[0].count == 2
