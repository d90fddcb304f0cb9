"""Bytes of main memory that programs written by hand read and write."""

from rejepa_jax.planning.hlo import parse
from rejepa_jax.planning.traffic import memory_traffic


def moved(*lines, inside=""):
    body = "\n".join(f"  {line}" for line in lines)
    return memory_traffic(
        parse(f"HloModule step\n\n{inside}\nENTRY %main () -> f32[] {{\n{body}\n}}\n")
    )


STACK = "%a = f32[12,100]{1,0} parameter(0)"
SLICE = """%one (p: f32[12,100], i: s32[]) -> f32[100] {
  %p = f32[12,100]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %cut = f32[1,100]{1,0} dynamic-slice(%p, %i, %i), dynamic_slice_sizes={1,100}
  ROOT %flat = f32[100]{0} bitcast(%cut)
}
"""
CHANGE = """%one (p: f32[12,100], u: f32[1,100]) -> f32[12,100] {
  %p = f32[12,100]{1,0} parameter(0)
  %u = f32[1,100]{1,0} parameter(1)
  %zero = s32[] constant(0)
  ROOT %set = f32[12,100]{1,0} dynamic-update-slice(%p, %u, %zero, %zero)
}
"""


def test_an_instruction_reads_its_operands_and_writes_its_result():
    assert moved(STACK, "%b = f32[12,100] negate(%a)", "%c = f32[12,100] add(%a, %b)") == 5 * 4800


def test_names_for_what_is_there_cost_nothing():
    assert moved(STACK, "%t = (f32[12,100]) tuple(%a)", "%g = f32[12,100] bitcast(%a)") == 0


def test_what_stays_on_the_chip_costs_nothing():
    assert moved(STACK, "%b = f32[12,100]{1,0:T(8,128)S(1)} negate(%a)") == 4800
    copied = "%b = (f32[12,100]{1,0:S(1)}, f32[12,100], u32[]) copy-start(%a)"
    assert moved(STACK, copied, "%c = f32[12,100]{1,0:S(1)} copy-done(%b)") == 4800


def test_a_slice_costs_the_slice():
    assert moved(STACK, "%b = f32[1,100] slice(%a), slice={[0:1], [0:100]}") == 2 * 400


def test_a_slice_that_is_brought_onto_the_chip_meanwhile():
    begun = "%b = ((f32[12,100]), f32[1,100]{1,0:S(1)}, s32[]) slice-start(%a), slice={[0:1]}"
    assert moved(STACK, begun, "%c = f32[1,100]{1,0:S(1)} slice-done(%b)") == 400


def test_a_fusion_that_only_cuts_a_layer_reads_the_layer():
    fusion = "%b = f32[100]{0} fusion(%a, %n), kind=kLoop, calls=%one"
    assert moved(STACK, "%n = s32[] parameter(1)", fusion, inside=SLICE) == 4 + 2 * 400


def test_a_fusion_that_changes_a_layer_in_place_moves_the_layer():
    fusion = "%b = f32[12,100]{1,0} fusion(%a, %n), kind=kLoop, calls=%one"
    assert moved(STACK, "%n = f32[1,100] parameter(1)", fusion, inside=CHANGE) == 2 * 400


def test_a_loop_moves_its_bytes_each_time():
    body = """%body (p: f32[25]) -> f32[25] {
  %p = f32[25]{0} parameter(0)
  ROOT %n = f32[25]{0} negate(%p)
}
"""
    trips = 'backend_config={"known_trip_count":{"n":"6"}}'
    loop = f"%b = f32[25] while(%a), condition=%c, body=%body, {trips}"
    assert moved("%a = f32[25] parameter(0)", loop, inside=body) == 6 * 2 * 100
