"""`nasx predict` on models of unknown origin: one line and status 2, or valid output; no other file is read."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasx.cli.main import main

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\u202e[bold red]=cmd|' /C calc'!A0<script>"


def described(names: tuple[str, ...] = ("a", "b"), **changes: object) -> str:
    about = {
        "arch_id": "0123456789",
        "architecture": "x",
        "class_names": list(names),
        "shape": [1, 12, 12],
        "dataset": "lines",
        "nasx": "0.1.0",
        "rebuild": {},
        "version": 1,
    }
    return json.dumps({**about, **changes})


def constant(name: str, values: object, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=dtype), name)


def model(
    probabilities: object = (0.25, 0.75),
    confidence: float = 0.5,
    *,
    text: str | None = None,
    change: Callable[[onnx.ModelProto], None] = lambda model: None,
) -> onnx.ModelProto:
    """A graph with these outputs for every image, and then changed."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["floats", "axes"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["zeros"]),
        helper.make_node("Unsqueeze", ["zeros", "one"], ["column"]),
        helper.make_node("Add", ["column", "row"], ["probabilities"]),
        helper.make_node("Add", ["zeros", "sure"], ["confidence"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 1, 12, 12])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("confidence", TensorProto.FLOAT, None),
        ],
        [
            constant("axes", [1, 2, 3], np.int64),
            constant("one", [1], np.int64),
            constant("zero", 0),
            constant("row", probabilities),
            constant("sure", confidence),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(made, {"nasx": described() if text is None else text})
    change(made)
    return made


@pytest.fixture
def run_predict(tmp_path, monkeypatch, capfd):
    """Run `nasx predict` on a model in a directory with a file that a model might read."""
    monkeypatch.chdir(tmp_path)
    Path("secret.bin").write_bytes(np.array([0.9, 0.1], np.float32).tobytes())
    Image.new("L", (12, 12), 200).save("a.png")
    Image.new("L", (12, 12), 100).save("b.png")

    def run(content: onnx.ModelProto | bytes, *options: str) -> tuple[int, str, str]:
        is_bytes = isinstance(content, bytes)
        Path("model.onnx").write_bytes(content if is_bytes else content.SerializeToString())
        capfd.readouterr()
        status = main(["predict", "model.onnx", "a.png", "b.png", *options])
        return (status, *capfd.readouterr())

    return run


def test_a_sound_graph_is_run(run_predict):
    status, out, _ = run_predict(model(), "--format=json")

    assert status == 0
    assert [(row["class"], row["probability"], row["confidence"]) for row in json.loads(out)] == [("b", 0.75, 0.5)] * 2


def external(tensor: TensorProto, location: str = "secret.bin") -> TensorProto:
    """Make a tensor read its values from a file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def row_of(made: onnx.ModelProto) -> TensorProto:
    return next(tensor for tensor in made.graph.initializer if tensor.name == "row")


def external_row(location: str) -> Callable[[onnx.ModelProto], None]:
    return lambda made: external(row_of(made), location) and None


def external_constant(made: onnx.ModelProto) -> None:
    tensor = external(row_of(made))
    node = helper.make_node("Constant", [], ["row"], value=tensor)
    made.graph.initializer.remove(row_of(made))
    made.graph.node.insert(0, node)


def external_branch(made: onnx.ModelProto) -> None:
    value = external(constant("v", [0.9, 0.1]))
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["out"], value=value)],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [2])],
    )
    made.graph.initializer.remove(row_of(made))
    made.graph.initializer.append(constant("yes", True, np.bool_))
    made.graph.node.insert(0, helper.make_node("If", ["yes"], ["row"], then_branch=branch, else_branch=branch))


def external_function(made: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["out"], value=external(constant("v", [0.9, 0.1])))
    made.functions.append(helper.make_function("mine", "f", [], ["out"], [node], [helper.make_opsetid("", 20)]))


def external_sparse(made: onnx.ModelProto) -> None:
    values, indices = external(constant("s", [0.9])), constant("", [0], np.int64)
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))


def custom_operation(made: onnx.ModelProto) -> None:
    made.graph.node[5].domain = "com.microsoft"
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def endless_loop(made: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["more"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    made.graph.initializer.append(constant("times", 2**62, np.int64))
    made.graph.initializer.append(constant("yes", True, np.bool_))
    row_of(made).name = "first"
    made.graph.node.insert(0, helper.make_node("Loop", ["times", "yes", "first"], ["row"], body=body))


def huge_memory(made: onnx.ModelProto) -> None:
    """Needs 4 TB."""
    row_of(made).name = "first"
    made.graph.initializer.append(constant("shape", [10**6, 10**6], np.int64))
    made.graph.initializer.append(constant("both", [0, 1], np.int64))
    made.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["much"]))
    made.graph.node.insert(1, helper.make_node("ReduceMax", ["much", "both"], ["nothing"], keepdims=0))
    made.graph.node.insert(2, helper.make_node("Add", ["first", "nothing"], ["row"]))


def outputs(*names: str) -> Callable[[onnx.ModelProto], None]:
    def change(made: onnx.ModelProto) -> None:
        del made.graph.output[:]
        made.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)

    return change


def integers(made: onnx.ModelProto) -> None:
    made.graph.node[4].output[0] = "exact"
    made.graph.node.append(helper.make_node("Cast", ["exact"], ["probabilities"], to=TensorProto.INT64))
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64


def texts(made: onnx.ModelProto) -> None:
    made.graph.node[4].output[0] = "exact"
    made.graph.node.append(helper.make_node("Cast", ["exact"], ["probabilities"], to=TensorProto.STRING))
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING


def no_input(made: onnx.ModelProto) -> None:
    made.graph.input[0].name = "pixels"


NAN, INF = float("nan"), float("inf")
REFUSED = {
    "weights in a file of the current directory": (model(change=external_row("secret.bin")), "from another file"),
    "weights in a file elsewhere": (model(change=external_row("/etc/passwd")), "from another file"),
    "weights in a file above": (model(change=external_row("../secret.bin")), "from another file"),
    "a constant in a file": (model(change=external_constant), "from another file"),
    "a constant in a file, in a branch": (model(change=external_branch), "from another file|a loop or a branch"),
    "a constant in a file, in a function": (model(change=external_function), "functions"),
    "sparse weights in a file": (model(change=external_sparse), "from another file"),
    "an operation of one vendor": (model(change=custom_operation), "of the domain 'com.microsoft'"),
    "a loop of 2**62 rounds": (model(change=endless_loop), r"a loop or a branch \(Loop\)"),
    "4 TB of memory": (model(change=huge_memory), "cannot be loaded"),
    "one output": (model(change=outputs("probabilities")), "not probabilities and confidence"),
    "three outputs": (model(change=outputs("probabilities", "confidence", "zeros")), "not probabilities and confid"),
    "integers": (model(change=integers), "not probabilities and confidence"),
    "texts": (model(change=texts), "not probabilities and confidence"),
    "another input": (model(change=no_input), "cannot be loaded"),
    "probabilities of NaN": (model((NAN, NAN)), "its probabilities are not numbers from 0 to 1"),
    "infinite probabilities": (model((INF, 0)), "its probabilities are not numbers from 0 to 1"),
    "negative probabilities": (model((-0.5, 1.5)), "its probabilities are not numbers from 0 to 1"),
    "probabilities that sum to 2": (model((1, 1)), "its probabilities do not sum to 1"),
    "confidence of NaN": (model(confidence=NAN), "its confidence are not numbers from 0 to 1"),
    "confidence above 1": (model(confidence=7), "its confidence"),
    "more probabilities than classes": (
        model((0.5, 0.25, 0.25)),
        r"expected \(\(1, 2\), \(1,\)\)",
    ),
    "one class": (model((1.0,), text=described(("a",))), "two or more different classes, got 1"),
    "no class": (model((), text=described(())), "two or more different classes, got 0"),
    "classes of one name": (model(text=described(("a", "a"))), "two or more different classes"),
    "a huge image": (model(text=described(shape=[1, 10**9, 10**9])), "8 to 224 pixels"),
    "an image of negative size": (model(text=described(shape=[1, -8, -8])), "8 to 224 pixels"),
    "a description of escapes": (model(text=ESCAPES), "its description is invalid"),
    "a description nested 100,000 times": (model(text="[" * 100_000), "its description is invalid"),
    "a description of 30 MB": (model(text=described(rebuild={"x": "x" * 30_000_000})), "more than 20,000,000 char"),
    "names that are numbers": (model(text=described((1, 2))), "its description is invalid"),  # type: ignore[arg-type]
    "no description": (model(change=lambda made: made.ClearField("metadata_props")), "it has no description"),
    "nothing": (b"", "cannot be loaded"),
    "noise": (bytes(range(256)) * 99, "cannot be loaded"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_graph_that_cannot_be_trusted_is_refused_in_one_line(run_predict, name):
    content, message = REFUSED[name]

    status, out, err = run_predict(content, "--format=json")

    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert re.search(message, err), err


def test_a_graph_that_fails_for_some_images_only_prints_no_half_result(run_predict):
    def change(made: onnx.ModelProto) -> None:  # 0 / least: NaN for black images only, and the check uses one
        made.graph.node[2].op_type = "Div"
        made.graph.node[2].input[:] = ["zero", "least"]
        made.graph.node.insert(2, helper.make_node("Sub", ["least", "hundred"], ["shifted"]))
        made.graph.node[3].input[1] = "shifted"
        made.graph.initializer.append(constant("hundred", 100))

    status, out, err = run_predict(model(change=change), "--format=csv")

    assert (status, out) == (2, "")
    assert "no valid outputs for these images" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("kind", ["table", "json", "csv"])
def test_class_names_of_escapes_are_printed_escaped(run_predict, kind):
    names = (f"a{ESCAPES}", f"=b{ESCAPES}\n")
    status, out, err = run_predict(model(text=described(names)), f"--format={kind}")

    assert status == 0
    assert all(c.isprintable() or c == "\n" for c in out + err)
    if kind == "json":
        assert [row["class"] for row in json.loads(out)] == [names[1]] * 2
    if kind == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert len(rows) == 2
        assert all(row["class"].startswith("'=b\\x1b") for row in rows)


def test_a_graph_that_runs_too_long_is_stopped(run_predict, monkeypatch):
    monkeypatch.setattr("nasx.export.formats.MAX_SECONDS", 0.2)

    def change(made: onnx.ModelProto) -> None:  # 400 products of large matrices: minutes
        made.graph.initializer.append(constant("side", [3000, 3000], np.int64))
        made.graph.node.insert(0, helper.make_node("ConstantOfShape", ["side"], ["m0"]))
        for i in range(400):
            made.graph.node.insert(i + 1, helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]))
        row_of(made).name = "first"
        made.graph.initializer.append(constant("both", [0, 1], np.int64))
        made.graph.node.insert(401, helper.make_node("ReduceMax", ["m400", "both"], ["nothing"], keepdims=0))
        made.graph.node.insert(402, helper.make_node("Add", ["first", "nothing"], ["row"]))

    status, _, err = run_predict(model(change=change))

    assert status == 2
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_what_is_no_file_is_refused_before_it_is_read(tmp_path, capfd, kind):
    path = tmp_path / "model.onnx"
    {"fifo": os.mkfifo, "device": lambda p: p.symlink_to("/dev/zero"), "directory": Path.mkdir}[kind](path)

    assert main(["predict", str(path), "x.png"]) == 2

    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


def test_a_larger_model_than_the_limit_is_refused_before_it_is_read(tmp_path, capfd):
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(2**31)  # no bytes on the disk

    assert main(["predict", str(tmp_path / "model.onnx"), "x.png"]) == 2
    assert "models may have at most" in capfd.readouterr().err


@pytest.mark.parametrize("member", ["../../escape", "/etc/escape", "data/weights/custom_obj_0", "data/code.so"])
def test_a_trusted_program_with_members_that_nasx_does_not_write_is_refused(tmp_path, capfd, member):
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr(member, "x")

    assert main(["predict", "--trust", str(tmp_path / "model.pt2"), "x.png"]) == 2
    assert re.search("leads out of the archive|which exports of nasx do not have", capfd.readouterr().err)


@pytest.mark.parametrize("name", ["model.pt2", "weights.pt"])
def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, capfd, monkeypatch, name):
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"archive/data/{number}", bytes(100_000_000))
    if name == "model.pt2":
        words = ["predict", "--trust", str(tmp_path / name), "x.png"]
    else:
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "bombed.py").write_text("import torch\ndef model():\n    return torch.nn.Linear(144, 4)\n")
        words = ["score", "bombed:model", "--data=lines", "--weights", str(tmp_path / name)]

    assert main(words) == 2
    assert "400,000,000 bytes when unpacked" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_an_export_contains_no_path_of_this_machine(exported, kind):
    directory = exported(kind)
    files = [file for file in directory.iterdir() if file.suffix in (".onnx", ".pt2", ".json", ".md")]
    content = b"".join(file.read_bytes() for file in files)

    assert len(files) == 3
    assert b"nasx" in content
    for path in (b"/nasx/", b"site-packages", str(Path(__file__).parents[2]).encode(), str(directory).encode()):
        assert path not in content
