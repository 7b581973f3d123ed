"""``predict.py``: what an export brings along for whoever has the model file and its runtime, and not this package."""

from __future__ import annotations

PREDICT = '''\
"""python predict.py MODEL PICTURE... prints a line a picture: its name, then x,y of the 15 keypoints in its pixels.

A picture is one face, cut out as Kaggle's are. Needs numpy, opencv-python-headless and the runtime of the model:
keras with tensorflow for .keras, onnxruntime for .onnx, ai-edge-litert for .tflite."""
import sys
import cv2
import numpy as np

def opened(file):
    if file.endswith(".onnx"):
        import onnxruntime
        session = onnxruntime.InferenceSession(file)
        return lambda face: session.run(None, {"pictures": face})[0]
    if file.endswith(".tflite"):
        from ai_edge_litert.interpreter import Interpreter
        run = Interpreter(model_path=file).get_signature_runner()
        return lambda face: next(iter(run(pictures=face).values()))
    import keras
    return keras.saving.load_model(file, compile=False).predict_on_batch

answer = opened(sys.argv[1])
for name in sys.argv[2:]:
    gray = cv2.imread(name, cv2.IMREAD_GRAYSCALE)
    if gray is None:
        sys.exit(f"{name}: is no picture")
    face = cv2.resize(gray, (96, 96), interpolation=cv2.INTER_AREA)[None, ..., None].astype(np.float32)
    points = (np.asarray(answer(face))[0, 0] + 0.5) * (np.array(gray.shape[::-1]) / 96) - 0.5
    print(name, *(f"{x:.2f},{y:.2f}" for x, y in points))
'''
"""Under 30 lines of code, on purpose: it is there to be read and changed."""

AS_KAGGLES = "A picture is one face, cut out as Kaggle's are."

PREPARED = """This model looks at faces as `fkpsearch predict` cuts them out of photographs (`prepare` in its settings).
A picture here has to be one of those: of others the answers are pixels off."""


def predict_script(*, prepared: bool) -> str:
    """Its text; ``prepared`` says that the model looks at faces that were cut out by a face detector."""
    return PREDICT.replace(AS_KAGGLES, PREPARED) if prepared else PREDICT
