"""Programs written by hand, in the forms that XLA's compilers print."""

import pytest

from rejepa_jax.planning.hlo import Shape, parse
from rejepa_jax.planning.sources import source

# A loop of five passes around a fusion; a stack of calls as newer versions write it.
TPU = """HloModule jit_step, is_scheduled=true

FileNames
1 "/home/me/run.py"
2 "/home/me/rejepa_jax/models/vit.py"
3 "/usr/lib/python3/site-packages/flax/nnx/linear.py"

FunctionNames
1 "<module>"

FileLocations
1 {file_name_id=1 function_name_id=1 line=3 end_line=3 column=1 end_column=2}
2 {file_name_id=2 function_name_id=1 line=70 end_line=70 column=1 end_column=2}
3 {file_name_id=3 function_name_id=1 line=9 end_line=9 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}

%inner (p: bf16[8,16]) -> f32[8,16] {
  %p = bf16[8,16]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %wide = f32[8,16]{1,0:T(8,128)} convert(%p), metadata={op_name="x" stack_frame_id=3}
}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (arg: (s32[], bf16[8,16])) -> (s32[], bf16[8,16]) {
  %arg = (s32[]{:T(128)}, bf16[8,16]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %x = bf16[8,16]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%arg), index=1
  %made = f32[8,16]{1,0:T(8,128)} fusion(%x), kind=kLoop, calls=%inner, metadata={stack_frame_id=1}
  ROOT %both = (s32[]{:T(128)}, bf16[8,16]{1,0}) tuple(%i, /*index=1*/%x)
}

%until (arg.1: (s32[], bf16[8,16])) -> pred[] {
  %arg.1 = (s32[]{:T(128)}, bf16[8,16]{1,0}) parameter(0)
  %end = s32[]{:T(128)} constant(5)
  %now = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%now, %end), direction=LT
}

ENTRY %main (x.1: bf16[8,16]) -> f32[] {
  %x.1 = bf16[8,16]{1,0} parameter(0), metadata={op_name="batch"}
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, bf16[8,16]{1,0}) tuple(%zero, %x.1)
  %loop = (s32[]{:T(128)}, bf16[8,16]{1,0}) while(%start), condition=%until, body=%body
  ROOT %total = f32[] all-reduce(%zero), replica_groups={{0,1}}, to_apply=%add
}
"""


@pytest.fixture(scope="module")
def program():
    return parse(TPU)


def find(program, name):
    return next(each for each, _, _ in program.instructions() if each.name == name)


def test_loops_run_as_often_as_their_counter_is_held_against(program):
    assert program.times == {"main": 1, "body": 5, "until": 5, "inner": 5}


def test_a_compilers_own_note_of_the_trips_comes_first():
    noted = TPU.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}')
    assert parse(noted).times["inner"] == 7


def test_a_loop_without_a_known_end_counts_once():
    assert parse(TPU.replace("direction=LT", "direction=NE")).times["inner"] == 1


def test_shapes_have_types_sizes_and_the_memory_that_they_are_in(program):
    made, held = find(program, "made"), find(program, "x")
    assert made.results == (Shape("f32", (8, 16), 0),)
    assert held.results == (Shape("bf16", (8, 16), 1),)
    assert find(program, "loop").results[0].dims == ()
    assert (made.results[0].bytes, held.results[0].bytes) == (512, 256)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("pred", 4), ("s4", 2), ("u16", 8), ("f8e4m3fn", 4), ("f64", 32), ("c64", 32), ("token", 0)],
)
def test_bytes_of_four_values(dtype, expected):
    assert Shape(dtype, (4,)).bytes == expected


def test_operands_and_attributes(program):
    both, made = find(program, "both"), find(program, "made")
    assert both.operands == ("i", "x")
    assert both.is_root
    assert made.called() == {"calls": ["inner"]}
    assert made.attribute("kind") == "kLoop"
    assert made.attribute("nothing") == ""


def line_of(program, name):
    return source(find(program, name).attributes, program.frames)


def test_the_source_is_our_innermost_line(program):
    assert line_of(program, "wide") == "models/vit.py:70"


def test_without_a_line_of_ours_the_source_is_the_innermost_line_or_the_operation(program):
    assert line_of(program, "made") == "/home/me/run.py:3"
    assert line_of(program, "x.1") == "batch"
    assert line_of(program, "loop") == ""


def test_the_older_form_of_a_source():
    older = TPU.replace("stack_frame_id=3", 'source_file="/a/rejepa_jax/x.py" source_line=4')
    assert line_of(parse(older), "wide") == "x.py:4"


def test_computations_inside_fusions(program):
    assert program.fused == {"inner"}
