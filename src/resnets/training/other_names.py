"""What a setting is called: here, in other tools, and by those who mistype it."""

import shlex
from collections.abc import Sequence
from difflib import get_close_matches

# What other tools and papers call a setting; case, and hyphens for underscores, do not matter.
_NAMES = {
    "schedule.epochs": "epoch n_epochs num_epochs max_epochs nb_epochs num_train_epochs",
    "schedule.iterations": "steps max_steps num_steps iters max_iter max_iters n_iter",
    "schedule.warmup": "warmup_ratio warmup_fraction warm_up",
    "schedule.warmup_epochs": "lr_warmup_epochs lr_peak_epoch warmup_t",
    "schedule.warmup_from": "lr_warmup_decay start_factor warmup_start_factor",
    "schedule.interval": "sched_on_updates",
    "schedule.end": "lrf",
    "schedule.warmup_steps": "warmup_iters num_warmup_steps",
    "schedule.shape": "scheduler lr_scheduler lr_scheduler_type sched lr_schedule cos_lr schedule",
    "schedule.milestones": "lr_steps decay_epochs lr_milestones",
    "schedule.factor": "gamma lr_gamma decay_rate",
    "schedule.plateau_patience": "patience_epochs",
    "schedule.patience": "early_stopping early_stop early_stopping_patience es_patience",
    "optimizer.lr": "learning_rate learningrate rate base_lr lr0 max_lr init_lr initial_lr lr_max "
    "learning_rate_init eta",
    "optimizer.kind": "optimizer opt optim",
    "optimizer.momentum": "beta1 beta_1",
    "optimizer.second_momentum": "beta2 beta_2",
    "optimizer.epsilon": "eps opt_eps adam_epsilon",
    "optimizer.weight_decay": "wd decay_weight l2 l2_regularization weightdecay",
    "optimizer.decay": "norm_weight_decay bn_wd filter_bias_and_bn",
    "optimizer.clip": "clip_grad grad_clip clip_norm max_grad_norm gradient_clip_val",
    "optimizer.accumulate": "grad_accum accum gradient_accumulation_steps grad_accum_steps "
    "accumulate_grad_batches accumulation_steps",
    "batch_size": "batch bs b batchsize train_batch_size per_device_train_batch_size",
    "seed": "random_seed manual_seed random_state",
    "loss": "criterion loss_function bce bce_loss",
    "class_weights": "class_weight weight_classes",
    "data.sampling": "sampler weighted_sampler balanced_sampling oversampling class_balance",
    "label_smoothing": "smoothing label_smoothing_factor",
    "target_threshold": "bce_target_thresh target_thresh",
    "drop_path": "drop_path_rate stochastic_depth stochastic_depth_prob droppath",
    "zero_init_residual": "zero_init_last zero_gamma",
    "ema": "model_ema ema_decay model_ema_decay",
    "ema_every": "ema_steps model_ema_steps",
    "precision": "amp fp16 bf16 half mixed_precision dtype",
    "data.image_size": "imagesize imgsz img_size img input_size size resolution crop crop_size "
    "train_crop_size image_resolution",
    "data.eval_size": "val_crop_size test_input_size eval_image_size",
    "data.resize": "val_resize_size resize_size",
    "data.repeats": "ra_reps aug_repeats num_repeats repetitions repeated_augmentation ra_sampler",
    "data.holdout": "val_split validation_split valid_pct val val_size test_size",
    "data.normalize": "normalization normalise mean_std",
    "augment.mirror": "flip hflip fliplr horizontal_flip random_flip",
    "augment.mixup": "mixup_alpha",
    "augment.cutmix": "cutmix_alpha",
    "augment.first_size": "min_res",
    "augment.policy": "auto_augment autoaugment aa randaugment rand_augment randaug ra "
    "trivialaugment trivial_augment ta_wide",
    "augment.policy_magnitude": "magnitude ra_magnitude",
    "augment.policy_operations": "num_ops num_layers ra_num_ops",
    "augment.policy_bins": "num_magnitude_bins",
    "augment.policy_noise": "mstd magnitude_std",
    "augment.jitter": "color_jitter colorjitter colour_jitter brightness contrast saturation hue",
    "augment.erasing": "random_erase random_erasing random_erasing_prob reprob re_prob",
    "augment.erasing_fill": "remode re_mode",
    "augment.interpolation": "train_interpolation",
    "augment.area": "random_resized_crop rrc",
    "augment.padding": "pad",
    "finetune.freeze": "frozen_stages freeze_layers freeze_at freeze_backbone",
    "finetune.head_epochs": "freeze_epochs",
}
_VALUES = {"ra": "randaugment", "ta_wide": "trivialaugment", "bce": "binary_cross_entropy"}
# What other tools call an argument of `train`, which is an option of the command too.
_ARGUMENTS = {
    "out": "output output_dir outdir project save_dir logdir log_dir run_dir exp",
    "model": "arch architecture network net backbone model_name",
    "recipe": "config cfg configuration",
    "device": "gpu gpus cuda accelerator no_cuda devices",
    "weights": "pretrained checkpoint finetune fine_tune transfer start_from init_from",
    "quiet": "verbose silent progress_bar enable_progress_bar",
}
_INSTEAD = {
    "nothing is to be set: images are read once, by as many threads as there are processors": (
        "workers num_workers nworkers jobs j dataloader_num_workers"
    ),
    "nothing is to be set: the data say how many classes there are": "num_classes nb_classes",
}
_OTHERS = {name: key for key, names in _NAMES.items() for name in names.split()}


def find_setting(name: str, keys: Sequence[str], *, mistyped: bool = True) -> str:
    """Return the one of ``keys`` that is meant by a name such as "--epochs"; empty when none is.

    ``keys`` are paths such as ``schedule.epochs``; ``mistyped`` lets the name be one that is near.
    """
    name = name.strip().lstrip("-").replace("-", "_").lower()
    if name in keys:
        return name
    last = name.rpartition(".")[2]
    lasts = {key.rpartition(".")[2]: key for key in reversed(keys)}
    if last in _OTHERS or last in lasts:
        return _OTHERS.get(last) or lasts[last]
    if not mistyped:
        return ""
    if close := get_close_matches(name, keys, 1, 0.8):
        return close[0]
    close = get_close_matches(last, [*lasts, *(n for n in _OTHERS if len(n) > 3)], 1, 0.75)
    return (lasts.get(close[0]) or _OTHERS[close[0]]) if close else ""


def find_argument(name: str) -> str:
    """Return the argument of `train` that another tool's name means; empty when none is."""
    return next((own for own, names in _ARGUMENTS.items() if name in names.split()), "")


def instead_of(name: str) -> str:
    """Return in words why there is nothing to be set for another tool's name; empty when not so."""
    return next((words for words, names in _INSTEAD.items() if name in names.split()), "")


def find_value(value: str) -> str:
    """Return what is meant by another tool's value, such as "ta_wide"; empty when nothing is."""
    return "timm" if value.startswith("rand-") else _VALUES.get(value, "")


def assignment(setting: str) -> str:
    """Return ``--set key=value`` as a shell takes it."""
    return f"--set {shlex.quote(setting)}"
