"""What other libraries call the options of a network, and what there is here instead."""

from collections.abc import Collection

from resnets.errors import nearest

# What other libraries call an option of a network: by its name here, or by what to do instead.
_OPTIONS = {
    "num_classes": "classes n_classes nclass nb_classes num_labels n_out",
    "in_channels": "in_chans input_channels n_in chans num_channels",
    "image_size": "img_size input_size input_shape resolution",
    "depths": "layers num_blocks stage_sizes",
    "groups": "cardinality",
    "width_per_group": "base_width",
    "bottleneck_stride": "style",
    "norm": "norm_layer norm_cfg",
    "activation": "act_layer act",
    "attention": "attn_layer",
    "dropout": "drop_rate dropout_rate",
    "drop_path": "drop_path_rate stochastic_depth_prob",
    "zero_init_residual": "zero_init_last zero_gamma",
}
_INSTEAD = {
    'create_backbone("{model}", levels=("c2", "c3", "c4")) returns the maps of stages': (
        "features_only out_indices return_layers out_features levels"
    ),
    'create_backbone("{model}", frozen_stages=1, weights=...) freezes the stem and a stage': (
        "frozen_stages freeze_at trainable_layers trainable_backbone_layers norm_eval freeze_bn"
    ),
    "model.forward_features(images) is the last map, model.embed(images) what is pooled of it": (
        "global_pool include_top pooling pool"
    ),
    "output_stride=16 for [False, False, True], 8 for [False, True, True]": (
        "replace_stride_with_dilation dilations"
    ),
    'head="drop" leaves out a classifier that does not fit': "strict",
    'model.to("cpu", torch.float32) moves it when it is made': "device dtype",
    "leave it out: a backbone has no classifier": "head",
    'weights="file.pth"': "checkpoint_path checkpoint init_cfg state_dict",
}


def option_meant(option: str, model: str, known: Collection[str]) -> str:
    """Return in words what is to be typed for an option that is not among those ``known``."""
    for name, words in _OPTIONS.items():
        if option in words.split():
            return f"did you mean {name}?"
    for words, names in _INSTEAD.items():
        if option in names.split():
            return words.format(model=model)
    close = nearest(option, list(known))
    return f"did you mean {close}?" if close else "help(resnets.Spec) lists what there is"
