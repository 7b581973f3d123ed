"""A Keras model as ONNX and TFLite, in a process of its own: ``python -m fkpsearch.convert FOLDER FORMAT... SOURCE...``

``FOLDER`` has ``model.keras``, ``pictures.npy`` to compare on and ``examples.npy`` by which int8 finds its ranges. It
gets the files of the formats, ``reference.npy``, what the model answers that was converted, and ``keras_ms.txt``.

tf2onnx makes ONNX of the graph with its weights frozen in, TensorFlow's own converter TFLite: of the ways there are
these two need nothing beside TensorFlow but tf2onnx, and take every family (docs/LOG.md). Keras' own ``export`` to ONNX
is not among them: constants of a model become inputs there. What stands in their way is put right first: half
precision, which only a GPU has; convolutions with a group for each channel, which ONNX calls depthwise; and ``erfc``,
for which tf2onnx has no word.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fkpsearch.answer import cloned, in_float32, layers_of, load_trusted, predict_heads
from fkpsearch.device import take_place
from fkpsearch.formats import FILES
from fkpsearch.keypoints import SIZE
from fkpsearch.models.hypermodel import is_source
from fkpsearch.runtimes import milliseconds


def to_onnx(model: Any, file: Path) -> None:
    """Write an ONNX model: ``pictures`` float32 ``[n, 96, 96, 1]`` -> ``keypoints`` ``[n, heads, 15, 2]``."""
    import onnx
    import tensorflow
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    _teach_erfc()
    whole = tensorflow.function(lambda pictures: model(pictures, training=False))
    takes = tensorflow.TensorSpec((None, SIZE, SIZE, 1), tensorflow.float32, name="pictures")
    frozen = convert_variables_to_constants_v2(whole.get_concrete_function(takes))
    names = {"pictures:0": "pictures", frozen.outputs[0].name: "keypoints"}
    graph_def = frozen.graph.as_graph_def()
    made, _ = tf2onnx.convert.from_graph_def(graph_def, input_names=list(names)[:1], output_names=list(names)[1:])
    for node in made.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for end in (*made.graph.input, *made.graph.output):
        end.name = names[end.name]
    onnx.checker.check_model(made)
    onnx.save(made, str(file))


def _teach_erfc() -> None:
    """tf2onnx a word for TensorFlow's ``Erfc``, which exact GELUs have: one less the error function."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class _Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            kind, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
            told = {"shapes": [shape], "dtypes": [kind]}
            one = ctx.make_const(f"{node.name}_one", np.array(1, np.float32))
            rest = ctx.make_node("Erf", [node.input[0]], **told)
            ctx.remove_node(node.name)
            ctx.make_node("Sub", [one.output[0], rest.output[0]], outputs=node.output, name=node.name, **told)


def to_tflite(model: Any, file: Path, examples: NDArray[np.uint8] | None = None) -> None:
    """Write a TFLite model that takes and answers float32; with ``examples`` [n, 96, 96] it computes in int8."""
    import tensorflow

    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    if examples is not None:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([one[None, ..., None].astype(np.float32)] for one in examples)
    file.write_bytes(converter.convert())


def plainly(model: Any) -> Any:
    """The same model in float32 and with depthwise convolutions for grouped ones; itself where it has neither."""
    import keras

    model = in_float32(model)
    if not any(_is_grouped(layer) for layer in layers_of(model)):
        return model

    def make(layer: Any) -> Any:
        told = layer.get_config()
        if not _is_grouped(layer):
            return layer.__class__.from_config(told)
        names = ("name", "kernel_size", "strides", "padding", "dilation_rate", "use_bias", "activation", "dtype")
        return keras.layers.DepthwiseConv2D(**{name: told[name] for name in names})

    return cloned(model, make)


def _is_grouped(layer: Any) -> bool:
    """Whether it is a convolution with a group for each channel."""
    import keras

    if not isinstance(layer, keras.layers.Conv2D) or isinstance(layer, keras.layers.DepthwiseConv2D):
        return False
    return bool(layer.groups > 1 and layer.groups == layer.filters)


def main(folder: Path, *told: str) -> None:
    """Load, convert, answer."""
    take_place()
    model = plainly(load_trusted(folder / FILES["keras"], *(one for one in told if is_source(one))))
    pictures = np.load(folder / "pictures.npy", mmap_mode="r")
    for name in told:
        match name:
            case "onnx":
                to_onnx(model, folder / FILES[name])
            case "tflite":
                to_tflite(model, folder / FILES[name])
            case "tflite-int8":
                to_tflite(model, folder / FILES[name], np.load(folder / "examples.npy"))
    np.save(folder / "reference.npy", predict_heads(model, pictures))
    (folder / "keras_ms.txt").write_text(str(milliseconds(model.predict_on_batch, pictures)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
