"""The permitted content of a bundle: `pack` and `verify` refuse everything that is not listed here.

A config is code: MONAI calls the object that a ``_target_`` names and passes the text after a ``$`` to ``eval``
(https://github.com/Project-MONAI/MONAI/security/advisories/GHSA-873f-pvrv-4x83). Therefore these lists contain only
what the project's configs use: components with the arguments that are set there, and complete expressions. Before
adding an entry, consider everything that it can do with values chosen by an attacker: no entry may run a command or
code, download, unpickle, import by name, or return text from which a config could be built.
"""

from __future__ import annotations

import re

from custom.common.code_hash import CODE

BUNDLES = ("recoseg_synth", "recoseg_seg")

# Paths inside a bundle. With the bundle's folder on Python's path, only custom can be imported from them.
# manifest.json is accepted for bundles up to 0.5.0 and never read.
FILES = re.compile(
    rf"{CODE.pattern}|LICENSE|manifest\.json|configs/(variants/)?[\w-]+\.json|configs/logging\.conf"
    r"|docs/[\w-]+\.(md|txt)|models/(model|direct|whole_tumour|fine)\.pt",
    re.ASCII,
)
MOST_FILES = 500


def largest(file: str) -> int:
    """Return the maximum size of a file inside a bundle, in bytes; the project's weights have 17 million."""
    return 200_000_000 if file.startswith("models/") else 5_000_000


# ---- `_target_` in configs -> the arguments that a config may set. Other arguments are dangerous: with the trainer's
# `compile_kwargs`, for example, torch would start a program that the config names as its C++ compiler.
COMPONENTS = {
    "Activationsd": "keys sigmoid",
    "AsDiscreted": "keys threshold allow_missing_keys",
    "Compose": "transforms",
    "ConcatItemsd": "keys name",
    "CopyItemsd": "keys names",
    "CropForegroundd": "keys source_key k_divisible",
    "DDPMScheduler": "num_train_timesteps prediction_type",
    "DataLoader": "dataset batch_size sampler shuffle drop_last num_workers",
    "Dataset": "data transform",
    "DeleteItemsd": "keys",
    "DiceCELoss": "sigmoid batch",
    "DiffusionModelUNet": "spatial_dims in_channels out_channels channels attention_levels num_res_blocks",
    "DistributedSampler": "dataset even_divisible shuffle",
    "DistributedWeightedRandomSampler": "dataset weights even_divisible",
    "DynUNet": "spatial_dims in_channels out_channels filters kernel_size strides upsample_kernel_size",
    "EnsureTyped": "keys track_meta",
    "IgniteMetricHandler": "metric_fn output_transform",
    "Invertd": "keys orig_keys transform nearest_interp allow_missing_keys",
    "LrScheduleHandler": "lr_scheduler print_lr",
    "RFlowScheduler": "num_train_timesteps",
    "RandAdjustContrastd": "keys prob gamma",
    "RandAffined": "keys prob rotate_range scale_range translate_range padding_mode",
    "RandCropByPosNegLabeld": "keys label_key spatial_size pos neg num_samples allow_smaller",
    "RandFlipd": "keys prob spatial_axis",
    "RandGaussianNoised": "keys prob std",
    "RandGaussianSmoothd": "keys prob",
    "RandScaleIntensityd": "keys prob factors channel_wise",
    "SegResNet": "spatial_dims in_channels out_channels init_filters blocks_down blocks_up dropout_prob",
    "SelectItemsd": "keys",
    "StatsHandler": "iteration_log",
    "SupervisedEvaluator": "device val_data_loader network prepare_batch inferer postprocessing"
    " key_val_metric additional_metrics val_handlers decollate",
    "SupervisedTrainer": "device max_epochs train_data_loader network optimizer loss_function prepare_batch"
    " inferer train_handlers decollate amp",
    "ToDeviced": "keys device",
    "UNet": "spatial_dims in_channels out_channels channels strides num_res_units",
    "ValidationHandler": "validator interval",
    "WarmupCosineSchedule": "optimizer warmup_steps t_total cycles",
    "convert_to_onnx": "model inputs input_names output_names dynamic_axes opset_version dynamo filename",
    "monai.engines.default_prepare_batch": "",
    "torch.nn.parallel.DistributedDataParallel": "module device_ids",
    "torch.optim.Adam": "params lr",
    "torch.optim.AdamW": "params lr fused",
    "torch.optim.SGD": "params lr momentum nesterov weight_decay",
    "torch.utils.data.RandomSampler": "data_source num_samples",
    "torch.utils.data.WeightedRandomSampler": "weights num_samples",
}
# The same for custom/, by the last part of the name: modules have moved between versions, and the names are unique.
OWN_COMPONENTS = {
    "AddAnchord": "keys target",
    "AnchoredInferer": "amp deviation_scale neighbours planes sampler samples schedule seed target",
    "AnchoredLoss": "structural_weight",
    "AutocastInferer": "amp",
    "AverageFromStart": "ema",
    "BrainSliceInferer": "channels neighbours planes flip amp outside",
    "BrainVolumeInferer": "channels roi_size amp outside",
    "CalibrationMetric": "",
    "Confidence": "weights_sha256 spread poor_below measured_with settings",
    "EngineLog": "log_dir",
    "FinePassd": "keys network checkpoint inferer regions share min_volume_mm3 coarse_checkpoint enabled device",
    "KnownRegionsLoss": "loss margin",
    "LabelsToRegionsd": "keys regions allow_missing_keys",
    "LoadStudyd": "channel_order fill label_scheme",
    "MarkUnlabelledd": "regions",
    "MetricsWriter": "output_dir studies weights settings regions",
    "ModalityUNet": "channels in_channels",
    "NearTumourd": "keys",
    "NestRegionsd": "keys",
    "PrepareAnchoredBatch": "schedule",
    "PrepareDiffusionBatch": "schedule steps start",
    "PrepareSegmentationBatch": "channels missing teacher",
    "PrepareStudyd": "raw output_dir keep_prepared",
    "Progress": "network",
    "RegionMasksd": "keys regions threshold min_volume_mm3",
    "RegionsToLabelsd": "keys regions label_scheme",
    "ReportWriter": "output_dir studies channel_order enabled",
    "Residuald": "target",
    "ResultsTable": "results",
    "ResultsWriter": "output_dir maps studies weights settings regions label_scheme enabled dataset_dir skip_existing "
    "confidence",
    "ResumableCheckpoint": "ema folder lr_scheduler resume validator",
    "SelectChannelsd": "keys channels",
    "SliceDataset": "studies keys neighbours planes transform tumour_free",
    "SpaceToDepthUNet": "in_channels out_channels channels num_res_blocks haar norm_num_groups",
    "StudyCache": "data transform num_workers output_dir cache_dir",
    "StudyDataset": "data preparation results transform",
    "StudyEvaluator": "device inferer network postprocessing val_data_loader val_handlers",
    "StudyToSlicesd": "label_key size spacing",
    "StackChannelsd": "",
    "SubtractAnchord": "keys target",
    "SynthesisInferer": "schedule sampler target start samples seed amp",
    "SynthesisLoss": "schedule structural_weight",
    "RegionNetwork": "inputs neighbours regions filters",
    "SynthesizeT1ced": "synth_bundle_root version sampler seed device amp variants consistency cross_fitted checkpoint "
    "fill_flair",
    "ToScannerGridd": "keys grid",
    "Uptaked": "margin",
    "ValidationPictures": "log_dir pictures",
    "check_options": "",
    "computing_precision": "amp device",
    "expect_share": "network share",
    "find_studies": "dataset_dir section datalist fold folds channel_order modalities masks dicom_ids keep_broken raw",
    "image_metric": "mask name",
    "join": "",
    "load_weights": "network path part frozen",
    "prepare_synthesis_batch": "target",
    "record_studies": "folder studies",
    "region_metric": "masks name",
    "require_writable": "folder",
    "sample": "steps eta",
    "sample_flow": "steps",
    "say_evaluate": "folder evaluator bundle_root dataset_dir datalist fold folds",
    "say_train_segmenter": "bundle_root datalist dataset_dir evaluator folder",
    "scales_gradients": "amp device",
    "segmentation_pictures": "",
    "study_loader": "dataset",
    "synthesis_pictures": "",
    "weight_average": "network",
}
# Components that may be passed as functions (`_mode_`: callable). Their callers choose the arguments, not the config.
FUNCTIONS = frozenset(
    (
        *("monai.engines.default_prepare_batch", "prepare_synthesis_batch", "sample", "sample_flow"),
        *("segmentation_pictures", "synthesis_pictures"),
    )
)
# Names that a key `a#b#name` may set besides arguments.
SECTIONS = frozenset(("slices",))

# ---- `$` in configs: statements and complete expressions. The section after an @ may be any other one, but paths begin
# with a root: with any other text, such as ~ or "", they could lead outside the bundle.
IMPORTS = ("$import monai", "$import os", "$import torch", "$import torch.distributed as dist")
SIBLING = "$@bundle_root + '/../recoseg_synth'"  # the only folder from which a segmenter may load a synthesizer
EXPRESSIONS = (
    SIBLING,
    "$@bundle_root + '/eval'",
    "$@bundle_root + '/models/direct.pt'",
    "$@bundle_root + '/models/fine.pt'",
    "$@bundle_root + '/models/model.onnx'",
    "$@bundle_root + '/models/model.pt'",
    "$@bundle_root + '/models/model.ts'",
    "$@bundle_root + '/models/whole_tumour.pt'",
    "$@bundle_root + '/runs'",
    "$'required' if @tumour_free else 'none'",
    "$('image', 'label') if @tumour_free else ('image',)",
    "$len(@inputs)",
    "$min(@val_interval, @train#trainer#max_epochs)",
    "$len(@inputs) * (2 * @neighbours + 1)",
    "$4 * (2 * @neighbours + 1) + 1",
    "$len(@regions)",
    "$str(@amp).lower() == 'true'",
    "$str(@raw).lower()",
    "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "$@network_def.to(@device)",
    "$@network.parameters()",
    "$@network.parts.parameters()",
    "$@ema.ema_model",
    "$@evaluator.run()",
    "$@fine.checkpoint",
    "$@fine.enabled",
    "$@table.finish()",
    "$@train#slices.weights(@tumour_share, @partial_share)",
    "$monai.handlers.from_engine(['prob', 'label_and_brain'])",
    "$monai.utils.set_determinism(seed=@seed)",
    # several processes, each with its own GPU
    "$torch.device('cuda:' + os.environ['LOCAL_RANK'] if torch.cuda.is_available() else 'cpu')",
    "$torch.cuda.is_available() and torch.cuda.set_device(@device)",
    "$[@device] if torch.cuda.is_available() else None",
    "$dist.is_initialized() or dist.init_process_group(backend='nccl' if torch.cuda.is_available() else 'gloo')",
    "$dist.is_initialized() and dist.destroy_process_group()",
    "$monai.utils.set_determinism(seed=@seed + dist.get_rank())",
    # exports
    "$torch.zeros(1, @network_def#in_channels, 120, 120, device=@device)",
    "$torch.zeros(1, dtype=torch.long, device=@device)",
    "$torch.zeros(1, 8, device=@device)",
    "$torch.jit.save(torch.jit.trace(@network, (torch.zeros(1, @network_def#in_channels, 120, 120, device=@device), "
    "torch.zeros(1, dtype=torch.long, device=@device), torch.zeros(1, 8, device=@device))), @torchscript)",
)
# Sections that an expression above slices: they must be lists, since slicing a text would create another text.
LISTS = frozenset(("handlers",))

# ---- used only by the configs of earlier versions, 0.2.0 to 0.5.0
EARLIER_COMPONENTS = {
    "CacheDataset": "data transform num_workers progress",
    "CheckpointSaver": "final_filename key_metric_filename save_dict save_dir save_final save_key_metric",
    "ConvertToMultiChannelBasedOnBratsClassesd": "keys",
    "DDPMScheduler": "schedule",
    "DataLoader": "persistent_workers",
    "DiceMetric": "ignore_empty",
    "MeanDice": "output_transform",
    "MeanIoU": "ignore_empty",
    "MeanIoUHandler": "output_transform",
    "RemoveSmallObjectsd": "keys min_size by_measure",
    "StatsHandler": "output_transform tag_name",
    "TensorBoardStatsHandler": "iteration_log log_dir output_transform tag_name",
    "UNet": "act",
    "ValidationHandler": "epoch_level",
    "torch.optim.lr_scheduler.CosineAnnealingLR": "optimizer T_max",
    "ignite.handlers.EMAHandler": "model momentum momentum_warmup warmup_iters",
}
EARLIER_OWN_COMPONENTS = {
    "FigurePerClass": "figure",
    "LoadStudyd": "modalities optional",
    "LossAsOutput": "",
    "MaskedPSNRMetric": "mask",
    "MaskedSSIMMetric": "",
    "ProgressBars": "",
    "MetricsWriter": "classes",
    "ResultsWriter": "classes",
    "ResumableCheckpoint": "objects",
    "ToStudyIntensitiesd": "keys channel",
    "find_studies": "optional",
    "has_terminal": "",
    "hd95_mm": "",
    "lesionwise_dice": "",
    "precision": "",
    "say_install": "bundle_root evaluator folder",
    "sensitivity": "",
    "slice_dice": "",
}
EARLIER_FUNCTIONS = frozenset(("hd95_mm", "lesionwise_dice", "precision", "sensitivity", "slice_dice"))
EARLIER_EXPRESSIONS = (
    "$monai.handlers.from_engine(['pred', 'label'])",
    "$torch.zeros(1, 4, 120, 120, device=@device)",
    "$torch.jit.save(torch.jit.trace(@network, (torch.zeros(1, 4, 120, 120, device=@device), "
    "torch.zeros(1, dtype=torch.long, device=@device))), @torchscript)",
    "$@train#handlers[: -3 if dist.get_rank() > 0 else None]",
    "$monai.handlers.from_engine(['loss'], first=True)",
    "$@val_interval if @val_interval < @train#trainer#max_epochs else @train#trainer#max_epochs",
    "$str(@amp).lower() == 'true' and torch.device(@device).type == 'cuda'",
    "$@train#handlers[: -2 if dist.get_rank() > 0 else None]",
    "$lambda output: output['loss'].item()",
)

# ---- options of logging.conf; logging.config evaluates some of them, such as class and args
LOGGING_OPTIONS = {
    "keys": re.compile(r"\w+(, ?\w+)*", re.ASCII),
    "level": re.compile("DEBUG|INFO|WARNING|ERROR|CRITICAL"),
    "handlers": re.compile(r"\w*", re.ASCII),
    "class": re.compile(r"StreamHandler|logging\.StreamHandler|logging\.Formatter"),
    "qualname": re.compile(r"\w+(\.\w+)*", re.ASCII),
    "args": re.compile(r"\(\)|\(sys\.(stdout|stderr),\)"),
    "formatter": re.compile(r"\w+", re.ASCII),
    # no widths: with a large one, a single line could exhaust the memory
    "format": re.compile(r"([\w ,;:.|\[\]-]|%\((asctime|name|levelname|filename|lineno|message)\)[sd])*", re.ASCII),
    "datefmt": re.compile(r"([\w ,:./-]|%[YmdHMS])*", re.ASCII),
}

# ---- imports permitted in the pickle of model.pt: those that torch.save writes for a state dict
PICKLE_GLOBALS = frozenset(
    ["collections OrderedDict", "torch._utils _rebuild_tensor_v2"]
    + [f"torch {kind}Storage" for kind in ("BFloat16", "Bool", "Double", "Float", "Half", "Int", "Long")]
)
# Opcodes in torch.save's pickles. Some of the others can import, or refer to imports in another way.
PICKLE_OPCODES = frozenset(
    (
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS"),
    )
)
