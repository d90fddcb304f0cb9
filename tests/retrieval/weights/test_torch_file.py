import os
import pickle
import re
import types

import foreign
import ml_dtypes
import numpy as np
import pytest

from rejepa_jax.retrieval.weights.torch_file import open_torch
from rejepa_jax.types import DataError

rng = np.random.default_rng(0)
MATRIX = rng.normal(size=(3, 4)).astype(np.float32)


# --- what is read


def test_tensors_of_nested_dictionaries_by_dotted_name(tmp_path):
    tree = {"model": {"a.weight": MATRIX, "b": {"c": MATRIX[:1].copy()}}, "epoch": 3}
    file = open_torch(foreign.write_torch(tmp_path / "x.pth", tree))
    assert file.shapes == {"model.a.weight": (3, 4), "model.b.c": (1, 4)}
    np.testing.assert_array_equal(file.read("model.a.weight"), MATRIX)
    np.testing.assert_array_equal(file.read("model.b.c"), MATRIX[:1])


@pytest.mark.parametrize(
    "view",
    [MATRIX.T, MATRIX[1:, 2:], MATRIX[::2], MATRIX[2], MATRIX[1, 1:1], MATRIX[1:2, 1].reshape(())],
    ids=["transposed", "corner", "every second", "row", "empty", "one number"],
)
def test_views_of_a_storage(tmp_path, view):
    file = open_torch(foreign.write_torch(tmp_path / "x.pth", {"a": view}))
    np.testing.assert_array_equal(file.read("a"), view)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_kinds_of_numbers(tmp_path, dtype):
    file = open_torch(foreign.write_torch(tmp_path / "x.pth", {"a": MATRIX.astype(dtype)}))
    assert file.read("a").dtype == dtype
    np.testing.assert_array_equal(file.read("a"), MATRIX.astype(dtype))


def test_plain_values_beside_tensors_are_passed_over(tmp_path):
    tree = {"a": MATRIX, "n": None, "flags": (True, False), "betas": [0.9, 0.999], 7: "text"}
    assert open_torch(foreign.write_torch(tmp_path / "x.pth", tree)).shapes == {"a": (3, 4)}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_pickle_itself_writes_of_plain_values(tmp_path, protocol):
    shared = {"x": 1.5}
    value = {"a": [1, 2**40, -3, "é"], "b": (shared, shared), "c": {"d": (None, True, ())}}
    members = {"data.pkl": pickle.dumps(value, protocol)}
    assert open_torch(foreign.write_zip(tmp_path / "x.pth", members)).shapes == {}


def test_a_dictionary_that_holds_itself_ends(tmp_path):
    # }  X "a"  memo: an empty dictionary that becomes its own item
    members = {"data.pkl": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s."}
    assert open_torch(foreign.write_zip(tmp_path / "x.pth", members)).shapes == {}


def test_settings_of_a_training_script_are_passed_over(tmp_path):
    # argparse.Namespace(lr=0.1) as pickle writes it: NEWOBJ, then BUILD with its attributes.
    namespace = b"cargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrG?\xb9\x99\x99\x99\x99\x99\x9asb"
    members = {"data.pkl": b"\x80\x02}X\x04\x00\x00\x00args" + namespace + b"s."}
    assert open_torch(foreign.write_zip(tmp_path / "x.pth", members)).shapes == {}


# --- what is refused, and never run


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_by_name_and_not_run(tmp_path, protocol):
    made = tmp_path / "made"
    program = pickle.dumps({"model": {}, "extra": Touch(made)}, protocol)
    path = foreign.write_zip(tmp_path / "x.pth", {"data.pkl": program})
    with pytest.raises(DataError, match=r"x\.pth cannot be read without running") as caught:
        open_torch(path)
    assert not made.exists()
    message = str(caught.value)
    assert protocol == 0 or f"{os.mkdir.__module__}.mkdir" in message
    assert "Nothing was run" in message
    assert "save_file(torch.load(" in message
    pickle.loads(program)  # the proof that it would have
    assert made.exists()


@pytest.mark.parametrize(
    ("program", "asked"),
    [
        (b"cbuiltins\neval\n(X\x01\x00\x00\x001tR.", "builtins.eval"),
        (b"(X\x01\x00\x00\x001ibuiltins\neval\n.", "INST builtins eval"),
        (b"ctorch._utils\n_rebuild_device_tensor\n)R.", "torch._utils._rebuild_device_tensor"),
        (b"cnumpy.core.multiarray\nscalar\n)R.", "numpy.core.multiarray.scalar"),
        (b"\x82\x01.", "EXT1 1"),
        (b"c__torch__\nModel\n)\x81.", "__torch__.Model"),
    ],
)
def test_unknown_names_are_refused(tmp_path, program, asked):
    path = foreign.write_zip(tmp_path / "x.pth", {"data.pkl": b"\x80\x02" + program})
    with pytest.raises(DataError, match=f"got a call for {re.escape(asked)}, expected only"):
        open_torch(path)


def test_nothing_on_the_stack_can_be_called_but_the_given(tmp_path):
    for program in (b"X\x01\x00\x00\x00a)R.", b"})R.", b"ctorch\nFloatStorage\n)R.", b"N)\x81."):
        path = foreign.write_zip(tmp_path / "x.pth", {"data.pkl": b"\x80\x02" + program})
        with pytest.raises(DataError, match=r"(?s)data\.pkl is damaged .*copy the file again"):
            open_torch(path)


# --- damage and other formats


def test_old_torch_files_are_refused_with_what_to_do(tmp_path):
    path = tmp_path / "old.pth"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + b"...")
    with pytest.raises(DataError, match=r"old\.pth: got neither .* since version 1\.6.*convert it"):
        open_torch(path)


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02}X\xff\x00\x00\x00a",
        b"\x80\x02s.",
        b"\x80\x02h\x07.",
        b"\x80\x02t.",
        b"\xff",
        b"\x80\x02}]]s.",
    ],
    ids=["cut", "no operands", "no memory", "no mark", "no operation", "key that is no key"],
)
def test_damaged_program(tmp_path, program):
    path = foreign.write_zip(tmp_path / "x.pth", {"data.pkl": program})
    with pytest.raises(DataError, match=r"x\.pth: data\.pkl is damaged"):
        open_torch(path)


def test_tensor_outside_its_storage_is_refused(tmp_path):
    # A view whose shape was made larger than what lies behind it.
    larger = np.lib.stride_tricks.as_strided(MATRIX, (3, 9), writeable=False)
    fake = types.SimpleNamespace(
        **{name: getattr(MATRIX, name) for name in ("base", "dtype", "ctypes", "itemsize", "size")},
        shape=larger.shape,
        strides=larger.strides,
        tobytes=MATRIX.tobytes,
    )
    path = foreign.write_torch(tmp_path / "x.pth", {"a": fake})
    with pytest.raises(DataError, match=r"shape \(3, 9\) does not fit into 12 numbers"):
        open_torch(path)


def test_short_storage_is_refused(tmp_path):
    path = foreign.write_torch(tmp_path / "x.pth", {"a": MATRIX}, changes={"data/0": b"1234"})
    with pytest.raises(DataError, match="tensor 'a' lies in 4 bytes, expected 12 numbers of float"):
        open_torch(path).read("a")


def test_flipped_byte_is_refused(tmp_path):
    path = foreign.write_torch(tmp_path / "x.pth", {"a": MATRIX})
    content = path.read_bytes()
    path.write_bytes(content.replace(MATRIX.tobytes()[:4], b"\0\0\0\0"))
    with pytest.raises(DataError, match=r"x/data/0 cannot be read .*CRC.*copy the file again"):
        open_torch(path).read("a")


def test_missing_storage_and_missing_program_are_refused(tmp_path):
    path = foreign.write_zip(tmp_path / "x.zip", {"a.txt": b""})
    with pytest.raises(DataError, match=r"a zip with 0 files data\.pkl"):
        open_torch(path)


def test_big_endian_numbers_are_refused(tmp_path):
    path = foreign.write_torch(tmp_path / "x.pth", {"a": MATRIX}, changes={"byteorder": b"big"})
    with pytest.raises(DataError, match="got big-endian numbers; where you trust it, convert"):
        open_torch(path)
