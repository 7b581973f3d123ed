"""What others reached on Kaggle's test set, to set a result beside.

Of the 2020 deck "Facial Keypoints Detection" (docs/deck.md) and of the competition's closed leaderboard.
"""

from __future__ import annotations

DECK = (
    ("baseline, complete rows only", 9.04, None),
    ("AlexNet", 4.23, 4.28),
    ("Inception V2, frozen", 4.06, None),
    ("MobileNetV2 0.50, frozen", 3.86, None),
    ("LeNet-5", 3.11, 3.21),
    ("VGG-16 condensed", 2.30, 2.62),
    ("Model 5: Model 3 on HE(Blur(Rotate(data))) + data", 2.021, 2.301),
    ("Model 1: five blocks, 32 to 512", 1.809, 2.166),
    ("Model 2: each convolution doubled", 1.730, 2.127),
)
"""Systems of the 2020 deck, RMSE in pixels on Kaggle's private and public half"""

LEADERBOARD = (("third place", 1.403), ("second place", 1.400), ("first place", 1.282))
"""The closed leaderboard, private"""

MEAN = 3.96
"""The mean keypoint on Kaggle's test set"""
