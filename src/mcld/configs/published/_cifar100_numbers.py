"""What was reported on CIFAR-100, pair by pair: columns in the order of ``PAIRS``, None where no number is known."""

from collections.abc import Sequence

Values = Sequence[float | None]

PAIRS = (
    ("resnet56", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("vgg13", "vgg8"),
    ("resnet32x4", "ShuffleV1"),
    ("wrn_40_2", "ShuffleV1"),
    ("vgg13", "MobileNetV2"),
    ("ResNet50", "MobileNetV2"),
    ("resnet32x4", "ShuffleV2"),
    # LSKD's further pairs
    ("resnet110", "resnet20"),
    ("resnet32x4", "wrn_16_2"),
    ("resnet32x4", "wrn_40_2"),
    ("wrn_40_2", "resnet8x4"),
    ("wrn_40_2", "MobileNetV2"),
    # RepDistiller's further pair
    ("ResNet50", "vgg8"),
    # SimKD's further pair
    ("resnet32x4", "vgg8"),
    # OFD's pairs
    ("wrn_28_4", "wrn_16_4"),
    ("wrn_28_4", "wrn_28_2"),
    ("wrn_28_4", "wrn_16_2"),
    ("wrn_28_4", "resnet56"),
)
USUAL = 11  # the first pairs, which every paper from CRD on has

TEACHERS = {
    "resnet56": 72.34,
    "resnet110": 74.31,
    "resnet32x4": 79.42,
    "wrn_40_2": 75.61,
    "vgg13": 74.64,
    "ResNet50": 79.34,
}
STUDENTS = {
    "resnet20": 69.06,
    "resnet32": 71.14,
    "resnet8x4": 72.50,
    "wrn_16_2": 73.26,
    "wrn_40_1": 71.98,
    "vgg8": 70.36,
    "ShuffleV1": 70.50,
    "MobileNetV2": 64.60,
    "ShuffleV2": 71.82,
}
OFD_NETWORKS = {"wrn_28_4": 78.91, "wrn_16_4": 77.28, "wrn_28_2": 75.12}

# RepDistiller README
KD = (70.66, 73.08, 73.33, 74.92, 73.54, 72.98, 74.07, 74.83, 67.37, 67.35, 74.45, 70.67, *[None] * 4, 73.81)
FITNET = (69.21, 71.06, 73.50, 73.58, 72.24, 71.02, 73.59, 73.73, 64.14, 63.16, 73.54, 68.99, *[None] * 4, 70.69)
AT = (70.55, 72.31, 73.44, 74.08, 72.77, 71.43, 71.73, 73.32, 59.40, 58.58, 72.73, 70.22, *[None] * 4, 71.84)
SP = (69.67, 72.69, 72.94, 73.83, 72.43, 72.68, 73.48, 74.52, 66.30, 68.08, 74.56, 70.04, *[None] * 4, 73.34)
CC = (69.63, 71.48, 72.97, 73.56, 72.21, 70.71, 71.14, 71.38, 64.86, 65.43, 71.29, 69.48, *[None] * 4, 70.25)
VID = (70.38, 72.61, 73.09, 74.11, 73.30, 71.23, 73.38, 73.61, 65.56, 67.57, 73.40, 70.16, *[None] * 4, 70.30)
RKD = (69.61, 71.82, 71.90, 73.35, 72.22, 71.48, 72.28, 72.21, 64.52, 64.43, 73.21, 69.25, *[None] * 4, 71.50)
PKT = (70.34, 72.61, 73.64, 74.54, 73.45, 72.88, 74.10, 73.89, 67.13, 66.52, 74.69, 70.25, *[None] * 4, 73.01)
FT = (69.84, 72.37, 72.86, 73.25, 71.59, 70.58, 71.75, 72.03, 61.78, 60.99, 72.50, 70.22, *[None] * 4, 70.29)
NST = (69.60, 71.96, 73.30, 73.68, 72.24, 71.53, 74.12, 74.89, 58.16, 64.96, 74.68, 69.53, *[None] * 4, 71.28)
CRD = (71.16, 73.48, 75.51, 75.48, 74.14, 73.94, 75.11, 76.05, 69.73, 69.11, 75.65, 71.46, *[None] * 4, 74.30)

# ReviewKD's paper, and those who ran it again
REVIEWKD = (71.89, 73.89, 75.63, 76.12, 75.09, 74.84, 77.45, 77.14, None, 69.89, 77.78)
REVIEWKD_FROM_MEMORY = (*[None] * 8, 70.37)
REVIEWKD_RERUN = (71.79, 73.61, 76.02, 76.27, 75.21, None, 76.94, 77.44, None, None, 77.86)
REVIEWKD_ISSUE_39 = (*[None] * 9, 69.88)

# mdistiller README
DKD = (71.97, 74.11, 76.32, 76.23, 74.81, 74.68, 76.45, 76.70, 69.71, 70.35, 77.07)
DOT = (None, None, 75.12, None, None, 73.77, *[None] * 4, 75.55)

# DIST README (mean and deviation), and what TTM README has for other pairs
DIST = ("71.75±.30", None, "76.31±.19", None, "74.43±.24", None, "76.34±.18", None, None, "68.66±.23", "77.35±.25")
DIST_TTM = (None, 73.69, None, 75.51, 74.73, 73.89, None, 76.40, 68.50, None, None, 71.65, *[None] * 4, 74.11)

# TTM README
TTM = (71.83, 73.97, 76.17, 76.23, 74.32, 74.33, 74.18, 75.39, 68.98, 69.24, 76.57, 71.46, *[None] * 4, 74.87)
WTTM = (71.92, 74.13, 76.06, 76.37, 74.58, 74.44, 74.37, 75.42, 69.16, 69.59, 76.55, 71.67, *[None] * 4, 74.82)

# CTKD README, and for the other pairs LSKD README
CTKD = (71.19, 73.52, None, 75.45, 73.93, 73.52, *[None] * 5, 70.99)
CTKD_LSKD = (None, None, 73.39, *[None] * 5, 68.50, 68.67, 75.37, None, 74.57, 77.66, 74.61, 68.34)

# LSKD README
KD_LSKD = (*[None] * 12, 74.90, 77.70, 73.97, 68.36)
KD_LS = (71.43, 74.17, 76.62, 76.11, 74.37, 74.36, None, None, 68.61, 69.02, 75.56, 71.48, 75.26, 77.92, 77.11, 69.23)
CTKD_LS = (71.34, 74.01, 76.67, 76.08, 74.58, 74.47, None, None, 68.98, 69.36, 76.18, 71.39, 75.16, 77.99, 77.03, 69.53)
DKD_LSKD = (*[None] * 11, 71.06, 75.70, 78.46, 75.56, 69.28)
DKD_LS = (72.32, 74.29, 77.01, 76.39, 74.89, 74.81, None, None, 69.98, 70.45, 77.37, 71.85, 76.19, 78.95, 76.75, 70.01)
MLKD = (72.19, 74.11, 77.08, 76.63, 75.35, 75.18, None, None, 70.57, 71.04, 78.44, 71.89, 76.52, 79.26, 77.33, 70.78)
MLKD_LS = (
    *(72.33, 74.32, 78.28, 76.95, 75.56, 75.22, None, None, 70.94, 71.19, 78.76),
    *(72.27, 77.53, 79.66, 77.68, 71.61),
)

# the last epoch, and the best, of the one published log of LSKD for each pair
KD_LS_LAST = (
    *(71.37, 74.01, 76.28, 75.59, 74.20, 74.50, None, None, 69.09, 69.03, 75.58),
    *(71.22, 75.82, 77.98, 76.69, 69.35),
)
DKD_LS_LAST = (
    *(71.82, 73.80, 76.93, 76.05, 74.60, 74.53, None, None, 69.88, 70.77, 76.92),
    *(71.37, 75.68, 78.79, 76.72, 70.11),
)
MLKD_LS_LAST = (
    *(None, 73.88, 78.17, 76.54, 74.97, 74.79, None, None, 70.54, 71.31, 77.89),
    *(71.92, 77.19, 79.27, 77.47, None),
)

# SimKD README (reduction 2), OFD README (100 − error)
SIMKD = (None, None, 78.08, *[None] * 14, 75.76)
OFD = (*[None] * 18, 79.11, 78.02, 75.92, 75.56)
