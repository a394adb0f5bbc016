"""ONNX graphs of four nodes."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

WEIGHT = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) / 16


def reference(faces: Tensor, weight: Tensor = WEIGHT) -> Tensor:
    """What a graph makes of faces."""
    return F.conv2d(faces, weight, stride=16).relu().mean(dim=(2, 3))


def write_graph(
    path: Path, shape: tuple[Any, ...] = ("b", 3, 112, 112), weight: Tensor = WEIGHT, dtype: str = "FLOAT", **save: Any
) -> str:
    """A convolution, its ReLU and their mean over the map, for input of `shape`: numbers are fixed, names open."""
    import onnx
    from onnx import helper

    kind = getattr(onnx.TensorProto, dtype)
    nodes = [
        helper.make_node("Conv", ["first"], ["maps"], strides=[16, 16]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["embedding"]),
    ]
    nodes[0].input.append("weight")
    if shape[-1] == 3:
        nodes.insert(0, helper.make_node("Transpose", ["faces"], ["first"], perm=[0, 3, 1, 2]))
    else:
        nodes[0].input[0] = "faces"
    values = weight.numpy().astype(helper.tensor_dtype_to_np_dtype(kind))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("faces", kind, shape)],
        [helper.make_tensor_value_info("embedding", kind, (shape[0], len(weight)))],
        [helper.make_tensor("weight", kind, values.shape, values.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path), **save)
    return str(path)
