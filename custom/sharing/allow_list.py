"""What a bundle may be made of. `pack` and `verify` refuse everything that is not stated here.

A config is code: MONAI calls whatever a ``_target_`` names and passes whatever follows a ``$`` to ``eval``
(https://github.com/Project-MONAI/MONAI/security/advisories/GHSA-873f-pvrv-4x83). Before adding a name, look at all that
it can do with arguments that an attacker chooses: nothing here may run a command or code, download, unpickle, or import
by name.
"""

from __future__ import annotations

import re

from custom.common.code_hash import CODE

BUNDLES = ("recoseg_synth", "recoseg_seg")

# Paths inside a bundle. None of them is a name that Python imports when the bundle's folder is on its path, but custom.
FILES = re.compile(
    rf"{CODE.pattern}|LICENSE|manifest\.json|configs/(variants/)?[\w-]+\.json|configs/logging\.conf"
    r"|docs/[\w-]+\.(md|txt|png)|models/(model|uptake)\.pt",
    re.ASCII,
)
MOST_FILES = 500


def largest(file: str) -> int:
    """Return how many bytes a file inside a bundle may have; the weights that come with the project have 17 million."""
    return 200_000_000 if file.startswith("models/") else 5_000_000


# `_target_` in configs, besides classes and functions that the bundle's own custom/ defines.
TARGETS = frozenset(
    (
        *("Activationsd", "AsDiscreted", "Compose", "ConcatItemsd", "CopyItemsd", "EnsureTyped", "Invertd"),
        *("ConvertToMultiChannelBasedOnBratsClassesd", "CropForegroundd", "RemoveSmallObjectsd", "SelectItemsd"),
        *("RandAdjustContrastd", "RandAffined", "RandCropByPosNegLabeld", "RandFlipd", "RandScaleIntensityd"),
        *("CacheDataset", "DataLoader", "Dataset", "DistributedSampler", "DistributedWeightedRandomSampler"),
        *("torch.utils.data.RandomSampler", "torch.utils.data.WeightedRandomSampler"),
        *("DiceCELoss", "DiceMetric", "MeanIoU"),
        *("DiffusionModelUNet", "DynUNet", "SegResNet", "UNet", "DDPMScheduler", "RFlowScheduler"),
        *("torch.nn.parallel.DistributedDataParallel",),
        *("torch.optim.Adam", "torch.optim.AdamW", "torch.optim.lr_scheduler.CosineAnnealingLR"),
        *("SupervisedEvaluator", "SupervisedTrainer", "monai.engines.default_prepare_batch"),
        *("convert_to_onnx",),  # as torch.jit.save below, it writes a network to a file
        *("CheckpointSaver", "IgniteMetricHandler", "LrScheduleHandler", "MeanDice", "MeanIoUHandler", "StatsHandler"),
        *("ValidationHandler",),
    )
)
MODES = ("default", "callable")  # `_mode_`; not "debug", which waits for a debugger

# `$` in configs: statements, then what an expression is made of.
IMPORTS = ("import monai", "import os", "import torch", "import torch.distributed as dist")
NAMES = frozenset(
    (
        *("len", "min", "str"),
        *("dist.destroy_process_group", "dist.get_rank", "dist.init_process_group", "dist.is_initialized"),
        *("monai.handlers.from_engine", "monai.utils.set_determinism"),
        *("torch.cuda.is_available", "torch.cuda.set_device", "torch.device"),
        *("torch.jit.save", "torch.jit.trace", "torch.long", "torch.zeros"),
    )
)
# what of the above takes no other arguments than these; init_method would name a machine to connect to
ARGUMENTS = {"dist.init_process_group": frozenset(("backend",))}
ENVIRONMENT = frozenset(("LOCAL_RANK",))  # os.environ[...]: no others, some hold secrets
# attributes of references and of what the above return
MEMBERS = frozenset(("ema_model", "item", "lower", "parameters", "run", "to", "type", "weights"))

# logging.conf, of which logging.config evaluates class, args and more.
LOGGING_OPTIONS = frozenset(
    ("keys", "level", "handlers", "qualname", "class", "args", "formatter", "format", "datefmt")
)
LOGGING_CLASSES = frozenset(("StreamHandler", "logging.StreamHandler", "logging.Formatter"))
LOGGING_STREAMS = frozenset(("sys.stdout", "sys.stderr"))

# What the pickle in model.pt may import: all that torch.save needs for a state dict.
PICKLE_GLOBALS = frozenset(
    ["collections OrderedDict", "torch._utils _rebuild_tensor_v2"]
    + [f"torch {kind}Storage" for kind in ("BFloat16", "Bool", "Double", "Float", "Half", "Int", "Long")]
)
# Opcodes of torch.save's pickles. Those that are left out can import too, or name what is imported in another way.
PICKLE_OPCODES = frozenset(
    (
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
        *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS"),
    )
)
