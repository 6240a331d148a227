"""What is published about weights where no program can ask: tables, each with its source."""

from typing import Any

# Whole SHA-256 digests that the publishers' leading digits begin, each measured on the downloaded
# file by several independent public repositories that agree on every digit.
WHOLE_DIGESTS = {
    digest[:8]: digest
    for digest in (
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",  # resnet18 V1
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",  # resnet50 V1
        "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",  # resnet50 V2
    )
}

TIMM_SOURCE = "huggingface/pytorch-image-models, results/results-imagenet.csv"
# top-1, top-5, and the side of the images they were measured at, which may be larger than what
# the weights were trained for.
TIMM_ACCURACY: dict[str, tuple[float, float, int]] = {
    "ecaresnet50d.miil_in1k": (81.650, 95.882, 288),
    "ecaresnet101d.miil_in1k": (82.984, 96.542, 288),
    "resnet18.a1_in1k": (73.158, 91.026, 288),
    "resnet18.a2_in1k": (72.372, 90.596, 288),
    "resnet18.a3_in1k": (68.254, 88.176, 224),
    "resnet18.fb_ssl_yfcc100m_ft_in1k": (72.594, 91.418, 224),
    "resnet18.fb_swsl_ig1b_ft_in1k": (73.282, 91.732, 224),
    "resnet18.gluon_in1k": (70.838, 89.754, 224),
    "resnet18.tv_in1k": (69.760, 89.070, 224),
    "resnet18d.ra2_in1k": (73.794, 91.838, 288),
    "resnet34.a1_in1k": (77.918, 93.766, 288),
    "resnet34.a2_in1k": (77.158, 93.274, 288),
    "resnet34.a3_in1k": (72.970, 91.108, 224),
    "resnet34.bt_in1k": (76.480, 93.354, 288),
    "resnet34.gluon_in1k": (74.578, 91.984, 224),
    "resnet34d.ra2_in1k": (78.436, 94.344, 288),
    "resnet50.a1_in1k": (81.214, 95.102, 288),
    "resnet50.a1h_in1k": (80.676, 95.306, 224),
    "resnet50.a2_in1k": (80.772, 94.988, 288),
    "resnet50.a3_in1k": (78.048, 93.780, 224),
    "resnet50.am_in1k": (78.998, 94.396, 224),
    "resnet50.b1k_in1k": (80.706, 95.432, 288),
    "resnet50.b2k_in1k": (80.454, 95.318, 288),
    "resnet50.bt_in1k": (79.640, 94.892, 288),
    "resnet50.c1_in1k": (80.912, 95.552, 288),
    "resnet50.c2_in1k": (80.870, 95.534, 288),
    "resnet50.d_in1k": (80.972, 95.430, 288),
    "resnet50.fb_ssl_yfcc100m_ft_in1k": (79.234, 94.826, 224),
    "resnet50.fb_swsl_ig1b_ft_in1k": (81.182, 95.992, 224),
    "resnet50.gluon_in1k": (77.580, 93.718, 224),
    "resnet50.ra_in1k": (79.836, 94.966, 288),
    "resnet50.ram_in1k": (79.976, 95.052, 288),
    "resnet50.tv2_in1k": (80.850, 95.434, 224),
    "resnet50.tv_in1k": (76.130, 92.858, 224),
    "resnet50c.gluon_in1k": (78.012, 93.988, 224),
    "resnet50d.a1_in1k": (81.450, 95.218, 288),
    "resnet50d.a2_in1k": (81.164, 95.084, 288),
    "resnet50d.a3_in1k": (78.722, 94.236, 224),
    "resnet50d.gluon_in1k": (79.078, 94.468, 224),
    "resnet50d.ra2_in1k": (81.356, 95.738, 288),
    "resnet50s.gluon_in1k": (78.718, 94.242, 224),
    "resnet101.a1_in1k": (82.322, 95.632, 288),
    "resnet101.a1h_in1k": (82.778, 96.310, 288),
    "resnet101.a2_in1k": (82.236, 95.730, 288),
    "resnet101.a3_in1k": (79.814, 94.606, 224),
    "resnet101.gluon_in1k": (79.310, 94.522, 224),
    "resnet101.tv2_in1k": (81.890, 95.768, 224),
    "resnet101.tv_in1k": (77.376, 93.542, 224),
    "resnet101d.gluon_in1k": (80.426, 95.024, 224),
    "resnet101d.ra2_in1k": (83.016, 96.452, 320),
    "resnet152.a1_in1k": (82.732, 95.720, 288),
    "resnet152.a1h_in1k": (83.450, 96.538, 288),
    "resnet152.a2_in1k": (82.608, 95.752, 288),
    "resnet152.a3_in1k": (80.546, 95.000, 224),
    "resnet152.gluon_in1k": (79.694, 94.736, 224),
    "resnet152.tv2_in1k": (82.288, 96.004, 224),
    "resnet152.tv_in1k": (78.322, 94.048, 224),
    "resnet152d.gluon_in1k": (80.476, 95.202, 224),
    "resnet152d.ra2_in1k": (83.684, 96.740, 320),
    "resnet200d.ra2_in1k": (83.964, 96.824, 320),
    "resnetv2_50.a1h_in1k": (81.398, 95.726, 288),
    "resnetv2_101.a1h_in1k": (83.002, 96.454, 288),
    "resnext50_32x4d.a1_in1k": (81.466, 95.174, 288),
    "resnext50_32x4d.a1h_in1k": (82.014, 95.934, 288),
    "resnext50_32x4d.a2_in1k": (81.304, 95.096, 288),
    "resnext50_32x4d.a3_in1k": (79.268, 94.306, 224),
    "resnext50_32x4d.fb_ssl_yfcc100m_ft_in1k": (80.338, 95.398, 224),
    "resnext50_32x4d.fb_swsl_ig1b_ft_in1k": (82.174, 96.222, 224),
    "resnext50_32x4d.gluon_in1k": (79.360, 94.430, 224),
    "resnext50_32x4d.ra_in1k": (80.698, 95.390, 288),
    "resnext50_32x4d.tv2_in1k": (81.182, 95.340, 224),
    "resnext50_32x4d.tv_in1k": (77.618, 93.696, 224),
    "resnext101_32x4d.fb_ssl_yfcc100m_ft_in1k": (80.924, 95.734, 224),
    "resnext101_32x4d.fb_swsl_ig1b_ft_in1k": (83.232, 96.758, 224),
    "resnext101_32x4d.gluon_in1k": (80.340, 94.930, 224),
    "resnext101_32x8d.fb_ssl_yfcc100m_ft_in1k": (81.606, 96.040, 224),
    "resnext101_32x8d.fb_swsl_ig1b_ft_in1k": (84.302, 97.176, 224),
    "resnext101_32x8d.fb_wsl_ig1b_ft_in1k": (82.698, 96.632, 224),
    "resnext101_32x8d.tv2_in1k": (82.832, 96.232, 224),
    "resnext101_32x8d.tv_in1k": (79.310, 94.520, 224),
    "resnext101_64x4d.c1_in1k": (83.156, 96.374, 288),
    "resnext101_64x4d.gluon_in1k": (80.600, 94.992, 224),
    "resnext101_64x4d.tv_in1k": (82.992, 96.244, 224),
    "seresnet50.a1_in1k": (81.102, 95.120, 288),
    "seresnet50.a2_in1k": (81.106, 95.222, 288),
    "seresnet50.a3_in1k": (77.028, 93.074, 224),
    "seresnet50.ra2_in1k": (81.284, 95.652, 288),
    "seresnext50_32x4d.gluon_in1k": (79.910, 94.824, 224),
    "seresnext50_32x4d.racm_in1k": (82.196, 96.148, 288),
    "wide_resnet50_2.racm_in1k": (82.280, 96.064, 288),
    "wide_resnet50_2.tv2_in1k": (81.606, 95.762, 224),
    "wide_resnet50_2.tv_in1k": (78.480, 94.086, 224),
    "wide_resnet101_2.tv2_in1k": (82.498, 96.018, 224),
    "wide_resnet101_2.tv_in1k": (78.838, 94.282, 224),
}


def _cifar(mean: list[float], std: list[float]) -> dict[str, Any]:
    return {"channels": 3, "resize": 32, "size": 32, "mean": mean, "std": std}


# github.com/chenyaofo/pytorch-cifar-models, README (digits, accuracy), resnet.py (option B) and
# LICENSE; the images' mean and deviation: chenyaofo/image-classification-codebase, conf/.
CHENYAOFO = {
    "cifar10": {
        "preprocess": _cifar([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
        "files": {
            20: ("4118986f", 92.60, 99.81),
            32: ("ef93fc4d", 93.53, 99.77),
            44: ("2a3cabcb", 94.01, 99.77),
            56: ("187c023a", 94.37, 99.83),
        },
    },
    "cifar100": {
        "preprocess": _cifar([0.5070, 0.4865, 0.4409], [0.2673, 0.2564, 0.2761]),
        "files": {
            20: ("23dac2f1", 68.83, 91.01),
            32: ("84213ce6", 70.16, 90.89),
            44: ("ffe32858", 71.63, 91.58),
            56: ("f2eff4c8", 72.63, 91.94),
        },
    },
}

# github.com/akamaster/pytorch_resnet_cifar10, README (digits, test error), trainer.py (mean and
# deviation are ImageNet's), resnet.py (half of option A's zero channels first) and LICENSE.
AKAMASTER = {
    20: ("12fca82f", 8.27),
    32: ("d509ac18", 7.37),
    44: ("014dd654", 6.90),
    56: ("4bfd9763", 6.61),
    110: ("1d1ed7c2", 6.32),
    1202: ("f3b1deed", 6.18),
}

# The Caffe models of He et al. 2015: github.com/KaimingHe/deep-residual-networks, README (error of
# the middle 224 x 224 of images whose shorter side is 256).
MSRA_ERROR = {50: (24.7, 7.8), 101: (23.6, 7.1)}
# detectron2/config/defaults.py: PIXEL_MEAN of blue, green, red in 0..255, PIXEL_STD 1.
MSRA_PREPROCESS = {
    "channels": 3,
    "resize": 256,
    "size": 224,
    "mean": [round(value / 255, 9) for value in (123.675, 116.28, 103.53)],
    "std": [round(1 / 255, 12)] * 3,
}
# Converted for mmdetection (docs/en/model_zoo.md), which names files by their SHA-256; without the
# classifier. detectron2's own files (MODEL_ZOO.md) have it, but no published digest.
MMDETECTION_DIGITS = {50: "5891d200", 101: "6cc46731"}


def _tables() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for class_set, table in CHENYAOFO.items():
        for depth, (digits, top1, top5) in table["files"].items():
            address = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/resnet"
            row = {
                "name": f"chenyaofo.{class_set}",
                "model": f"resnet{depth}_b",
                "files": [{"address": f"{address}/{class_set}_resnet{depth}-{digits}.pt"}],
                "dialect": "torchvision",
                "preprocess": table["preprocess"],
                "class_set": class_set,
                "accuracy": {"top1": top1, "top5": top5, "image_size": 32},
                "source": "github.com/chenyaofo/pytorch-cifar-models, README",
                "licence": "BSD-3-Clause",
            }
            rows.append(row)
    for depth, (digits, error) in AKAMASTER.items():
        address = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models"
        rows.append(
            {
                "name": "akamaster.cifar10",
                "model": f"resnet{depth}",
                "files": [{"address": f"{address}/resnet{depth}-{digits}.th"}],
                "dialect": "akamaster",
                "preprocess": _cifar([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
                "class_set": "cifar10",
                "accuracy": {"top1": round(100 - error, 2), "image_size": 32},
                "source": "github.com/akamaster/pytorch_resnet_cifar10, README",
                "licence": "BSD-2-Clause",
                "changes": {"zero_pad": "both"},
            }
        )
    for depth, (top1, top5) in MSRA_ERROR.items():
        row = {
            "model": f"resnet{depth}_v1",
            "preprocess": MSRA_PREPROCESS,
            "channel_order": "bgr",
            "accuracy": {
                "top1": round(100 - top1, 1),
                "top5": round(100 - top5, 1),
                "image_size": 224,
            },
            "source": "github.com/KaimingHe/deep-residual-networks, README",
        }
        detectron2 = "https://dl.fbaipublicfiles.com/detectron2/ImageNetPretrained/MSRA"
        openmmlab = "https://download.openmmlab.com/pretrain/third_party"
        rows += [
            {
                "name": "detectron2.MSRA",
                "files": [{"address": f"{detectron2}/R-{depth}.pkl"}],
                "dialect": "caffe2",
                "licence": "CC-BY-SA-3.0",
                **row,
            },
            {
                "name": "mmdetection.MSRA",
                "files": [
                    {"address": f"{openmmlab}/resnet{depth}_msra-{MMDETECTION_DIGITS[depth]}.pth"},
                ],
                "dialect": "mmdetection",
                "head": False,
                **row,
            },
        ]
    return rows


TABLES = _tables()

# Krizhevsky 2009, fine labels in the data set's order, which is the alphabet's.
CIFAR100_CLASSES = [
    *("apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle"),
    *("bicycle", "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel"),
    *("can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud"),
    *("cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant"),
    *("flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard"),
    *("lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree"),
    *("motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter"),
    *("palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine"),
    *("possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea"),
    *("seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider"),
    *(
        "squirrel",
        "streetcar",
        "sunflower",
        "sweet_pepper",
        "table",
        "tank",
        "telephone",
        "television",
    ),
    *("tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale"),
    *("willow_tree", "wolf", "woman", "worm"),
]
