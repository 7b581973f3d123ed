"""Pictures changed where the Keras backend has them: the host draws what becomes of each and sends that alone.

It is what `warp` and a look-up table do, in the backend's own operations. OpenCV rounds the places it reads at to a
32nd of a pixel, which this does not: gray levels differ by a few where a picture is steep.
"""

from __future__ import annotations

from typing import Any

from fkpsearch.augment import Order
from fkpsearch.keypoints import SIZE
from fkpsearch.warp import AT_PIXELS


def augment_there(pictures: Any, order: Order) -> Any:
    """uint8 ``[n, 96, 96]`` and an order for b of them -> uint8 ``[b, 96, 96, 1]``, all of them the backend's."""
    from keras import ops

    # sums in place of matrix products, which GPUs may round to ten bits: a tenth of a pixel
    down = ops.sum(AT_PIXELS[:, :, None] * ops.expand_dims(order.starts, 2), axis=3)
    places = ops.sum(ops.expand_dims(down, 3) * AT_PIXELS, axis=4)
    x, y = (ops.clip(places[:, axis] / places[:, 2], 0, SIZE - 1) for axis in (0, 1))  # edge pixels repeated beyond
    left, top = ops.floor(x), ops.floor(y)
    right, bottom = ops.minimum(left + 1, SIZE - 1), ops.minimum(top + 1, SIZE - 1)
    flat = ops.reshape(ops.take(pictures, order.rows, axis=0), (-1, SIZE * SIZE))

    def gray(row: Any, column: Any) -> Any:
        return ops.cast(_looked_up(flat, row * SIZE + column), "float32")

    def between(one: Any, other: Any, share: Any) -> Any:
        return one + (other - one) * share

    upper = between(gray(top, left), gray(top, right), x - left)
    lower = between(gray(bottom, left), gray(bottom, right), x - left)
    return ops.expand_dims(_looked_up(order.levels, ops.round(between(upper, lower, y - top))), 3)


def _looked_up(tables: Any, places: Any) -> Any:
    """Of tables ``[b, t]`` what stands at places ``[b, 96, 96]``, which are whole numbers."""
    from keras import ops

    places = ops.reshape(ops.cast(places, "int32"), (-1, SIZE * SIZE))
    return ops.reshape(ops.take_along_axis(tables, places, axis=1), (-1, SIZE, SIZE))
