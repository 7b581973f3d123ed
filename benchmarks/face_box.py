"""Whether a face box and alignment help: ``python benchmarks/face_box.py [--places] [FACES96]``; about 7 minutes.

One net, the enqueued one of ``spaces/laptop.yaml`` with fewer epochs, is trained on the real faces as they are, on
faces cut out by MTCNN's box, and on aligned ones, with the same split and two seeds each. All RMSEs are of the
validation part, in pixels of the pictures as they are. Then the nets trained on pictures as they are answer faces that
were cut out, of upright and of turned pictures: how `predict` uses them. ``--places`` prints the constants of `frame`
instead.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

from fkpsearch.answer import of_population, predict_heads
from fkpsearch.data import Faces, load_data
from fkpsearch.detect import find_in_a_process
from fkpsearch.frame import EYES_AND_MOUTH, Prepare, to_frame
from fkpsearch.keypoints import CENTRE, SIZE, rmse
from fkpsearch.prepare import cut_out, main_faces, prepared
from fkpsearch.settings import Settings, settings_of
from fkpsearch.space import Given, load_space
from fkpsearch.train import train

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = 15
SEEDS = (0, 1)
HOWS = {"none": Prepare(), "box": Prepare(face_box="mtcnn"), "box and alignment": Prepare(face_box="mtcnn", align=True)}
TURN = 30.0
"""Degrees, either way, by which pictures are turned at most"""


def main() -> None:
    """Print the tables."""
    arguments = [word for word in sys.argv[1:] if word != "--places"]
    folder = Path(arguments[0] if arguments else os.environ.get("FKPSEARCH_FACES96", ROOT / "../shared/data/faces96"))
    faces = load_data(folder).faces
    if "--places" in sys.argv:
        print_places(faces)
        return
    began = time.perf_counter()
    find_in_a_process(np.asarray(faces.images))
    seconds = time.perf_counter() - began
    share = np.mean(main_faces(faces.images)["confidence"] > 0)
    print(f"accepted faces in {share:.1%} of {len(faces)} pictures; {1000 * seconds / len(faces):.1f} ms a picture")
    plain: list[Any] = []
    for name, how in HOWS.items():
        ready = prepared(faces, how)
        outcomes = [train(settings(how, seed), ready) for seed in SEEDS]
        each = ", ".join(f"{outcome.rmse:.3f}" for outcome in outcomes)
        print(f"trained on {name:18} validation {np.mean([one.rmse for one in outcomes]):.3f} px ({each})", flush=True)
        plain = plain or outcomes
    validation = faces.take(plain[0].rows)
    for title, shown in (("as they are", validation), (f"turned by up to {TURN:g} degrees", turned(validation))):
        for name, how in HOWS.items():
            ready = prepared(shown, how)
            scores = [rmse(ready.in_picture(answers(one.model, ready)), shown.keypoints) for one in plain]
            each = ", ".join(f"{score:.3f}" for score in scores)
            print(f"trained on none, pictures {title}, cut out by {name:18} {np.mean(scores):.3f} px ({each})")


def settings(how: Prepare, seed: int) -> Settings:
    """The laptop's enqueued settings, shorter."""
    space = load_space(ROOT / "spaces" / "laptop.yaml")
    tree = space.sample(Given(space.enqueued()[0]))
    training = {**tree["training"], "epochs": EPOCHS}
    return settings_of({**tree, "training": training, "prepare": how.model_dump(), "seed": seed}, space.place)


def answers(model: Any, faces: Faces) -> Any:
    """In pixels of the images, by the head of each picture's population."""
    return of_population(predict_heads(model, faces.images), faces.population)


def turned(faces: Faces) -> Faces:
    """The pictures turned about their centres, edge pixels repeated, and their labels."""
    angles = np.random.default_rng(0).uniform(-TURN, TURN, len(faces))
    frames = np.stack([cv2.getRotationMatrix2D((CENTRE, CENTRE), angle, 1.0) for angle in angles])
    images = [
        cv2.warpAffine(np.asarray(image), frame, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
        for image, frame in zip(faces.images, frames, strict=True)
    ]
    keypoints = to_frame(faces.keypoints, frames)
    return Faces(np.stack(images), keypoints, faces.population, faces.group, "turned")


def print_places(faces: Faces) -> None:
    """The constants of `frame`: where Kaggle's crops lie about MTCNN's boxes, and its landmarks in them."""
    found = main_faces(faces.images)
    sure = found["confidence"] > 0
    box = found["box"][sure]
    height = box[:, 3] - box[:, 1]
    offset = (CENTRE - (box[:, :2] + box[:, 2:]) / 2) / height[:, None]
    print(f"{sure.sum()} pictures of {len(faces)}")
    print(f"SIDE {np.median(SIZE / height):.3f}  OFFSET {np.median(offset, axis=0).round(3).tolist()}")
    print(f"PLACES {found['landmarks'][sure].mean(axis=0)[EYES_AND_MOUTH].round(1).tolist()}")
    for name, how in HOWS.items():
        full = faces.population == 0
        keypoints = to_frame(faces.keypoints, cut_out(faces.images, how)[1])[full]
        print(
            f"spread of a keypoint about its mean, {name}: {np.sqrt(np.nanmean(np.nanvar(keypoints, axis=0))):.2f} px"
        )


if __name__ == "__main__":
    main()
