"""The command ``recoseg``: short names for the commands of the bundles and of their ``custom``.

Each runs what ``python -m monai.bundle run`` and ``python -m custom`` run, with the bundles of this package. With
--verbose, a command that runs a bundle prints MONAI's command line first.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from recoseg.bundle import BUNDLES, SEG, SYNTH, VERSION, use_custom

# Nothing else is imported here: --help is to appear at once.

ROLES = {"synth": SYNTH, "seg": SEG}
OPTIONS, VERBOSE = "recoseg.options", "recoseg.verbose"  # where click keeps the words after --, and --verbose
STATUS_FILE = "RECOSEG_STATUS_FILE"  # where a process of torchrun, whose own status is always 1, leaves its status
SECONDS_TO_END = 20  # that the processes of --jobs have after Ctrl-C
OPTION = re.compile(r"--?[A-Za-z_]")


class PathGiven(click.Path):
    """A path that can be one, and is not empty: a shell's variable without a value would be the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        use_custom()
        from custom.common.cli_flags import as_path
        from custom.common.errors import BadInput

        try:
            return super().convert(as_path(value, argument="the path"), param, ctx)
        except BadInput as error:
            self.fail(str(error), param, ctx)


PATH = PathGiven(path_type=Path)

output_dir = click.option("-o", "--output-dir", required=True, type=PATH, help="Folder of the results.")
studies = click.argument("studies", metavar="STUDY...", nargs=-1, required=True, type=PATH)
raw = click.option(
    "--raw/--no-raw", default=None, help="With skull and unregistered, or prepared.  [default: measured]"
)
fast = click.option("--fast", is_flag=True, help="Axial slices alone, and no fine pass: faster, less accurate.")
skip_existing = click.option(
    "--skip-existing",
    is_flag=True,
    help="Skip studies with results of the same weights and settings; add missing reports.",
)
jobs = click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Studies at a time.")
dataset = click.argument("dataset", type=PATH)
dicom_ids = click.option(
    "--dicom-ids",
    type=click.Choice(["hash", "folder"]),
    default="hash",
    show_default=True,
    help="Name a DICOM study by a hash, or after its folder.",
)
role = click.argument("role", metavar="[synth|seg]", type=click.Choice(list(ROLES)))


class BundleCommand(click.Command):
    """A command that passes the words after ``--`` on to the bundle."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words after ``--``; click would take them as further studies."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[OPTIONS] = args[end + 1 :]
        stray = _without_a_name(args[end + 1 :])
        if stray and not ctx.resilient_parsing:  # of the shell's completion, which shows no errors
            raise click.UsageError(f"Got {stray!r} after --, expected options such as --threshold 0.3.", ctx)
        flags = {
            name for each in self.params if getattr(each, "is_flag", False) for name in each.opts + each.secondary_opts
        }
        for option, word in pairwise(args[:end]):
            if _with_dashes(option) in flags and word.lower() in ("true", "false"):  # which would be a study
                raise click.BadOptionUsage(option, f"Option {option!r} does not take a value, but got {word!r}.", ctx)
        try:
            return super().parse_args(ctx, args[:end])
        except click.NoSuchOption as error:
            near = [each for each in error.possibilities or () if each != "--help"]  # which is like everything
            said = click.NoSuchOption(error.option_name, possibilities=near).format_message().rstrip(".")
            said += "" if said.endswith("?") else "."
            raise click.UsageError(f"{said} Options of the bundle's config follow after --.", ctx) from None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say where the options of the bundle are."""
        formatter.write_paragraph()
        formatter.write_text("After --, options of the bundle's config follow; -- --help lists them.")


def _without_a_name(words: Sequence[str]) -> str | None:
    """Return the first word that is neither an option nor its value; MONAI takes it for a part of the run to leave out.

    - and -- separate commands there.

    >>> _without_a_name(["--flip", "--seed", "-1", "--device=cpu"]), _without_a_name(["--seed", "1", "2"])
    (None, '2')
    """
    named = False  # whether the word before was an option that may have a value
    for word in words:
        is_option = OPTION.match(word) is not None
        if word in ("-", "--") or not (is_option or named):
            return word
        named = is_option and word.startswith("--") and "=" not in word
    return None


def of_a_bundle(as_json: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of every command that runs a bundle, and set up its log.

    Args:
        as_json: what the option --json prints; without it there is no such option.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.option("--device", help="cpu, cuda or cuda:1.  [default: cuda if there is one]")
        @click.option("-q", "--quiet", is_flag=True, help="Print no progress, only results, warnings and errors.")
        @click.option("-v", "--verbose", is_flag=True, help="Print everything, and MONAI's command line first.")
        @functools.wraps(command)
        def wrapped(quiet: bool, verbose: bool, **given: Any) -> None:
            click.get_current_context().meta[VERBOSE] = verbose
            _set_up_log(quiet, verbose)
            command(**given)

        return click.option("--json", "as_json", is_flag=True, help=as_json)(wrapped) if as_json else wrapped

    return decorate


def _with_dashes(name: str) -> str:
    """Return an option's name as click has it: messages and MONAI's command line write it with underscores.

    >>> _with_dashes("--output_dir")
    '--output-dir'
    """
    return name.replace("_", "-")


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": _with_dashes,
    }
)
@click.version_option(VERSION, prog_name="recoseg")
def recoseg() -> None:
    """Segment brain tumours in MRI. Research software, not a medical device.

    \b
    Example:
      recoseg demo
      recoseg segment STUDY -o RESULTS

    Exit status: 0 done, 1 some studies failed, or the program itself, 2 wrong use or bad input.

    \b
    Completion with the Tab key, in ~/.bashrc (or zsh_source, fish_source):
      eval "$(_RECOSEG_COMPLETE=bash_source recoseg)"
    """


@recoseg.command(cls=BundleCommand)
@studies
@output_dir
@raw
@click.option(
    "--regions",
    type=click.Choice(["all", "wt"]),
    default="all",
    show_default=True,
    help="Whole tumour, core and enhancing tumour; or the whole tumour alone, by a network of its own.",
)
@fast
@click.option("--report/--no-report", default=True, show_default=True, help="Write an HTML report of each study.")
@skip_existing
@jobs
@of_a_bundle(as_json="Print a JSON list with the status, the volumes in ml and the other measures of each study.")
@click.pass_context
def segment(
    ctx: click.Context,
    studies: Sequence[Path],
    output_dir: Path,
    raw: bool | None,
    regions: str,
    fast: bool,
    report: bool,
    skip_existing: bool,
    jobs: int,
    as_json: bool,
    device: str | None,
) -> None:
    """Segment the tumour of studies, or of folders of studies.

    A STUDY is a folder with FLAIR, T1, T2 and T1ce, a 4-D file, or a folder of DICOM files.

    \b
    Example:
      recoseg segment STUDY -o RESULTS
      recoseg segment STUDIES -o RESULTS --jobs 4 --skip-existing
      recoseg segment STUDY -o RESULTS -- --threshold 0.3
    """
    configs = ["inference"] if regions == "all" else ["inference", "variants/whole_tumour"]
    planes, fine_pass = (["axial"], False) if fast else (None, None)
    settings = {"raw": raw, "planes": planes, "fine_pass": fine_pass, "report": report, "device": device}
    infer(ctx, SEG, configs, studies, output_dir, settings, skip_existing, jobs, as_json)


@recoseg.command(cls=BundleCommand)
@studies
@output_dir
@click.option(
    "--target",
    type=click.Choice(["flair", "t1", "t2", "t1ce"]),
    default="t1ce",
    show_default=True,
    help="The modality to synthesize from the others.",
)
@raw
@fast
@skip_existing
@jobs
@of_a_bundle(as_json="Print a JSON list with the status of each study.")
@click.pass_context
def synthesize(
    ctx: click.Context,
    studies: Sequence[Path],
    output_dir: Path,
    target: str,
    raw: bool | None,
    fast: bool,
    skip_existing: bool,
    jobs: int,
    as_json: bool,
    device: str | None,
) -> None:
    """Synthesize one modality of studies from the others.

    \b
    Example:
      recoseg synthesize STUDY -o SYNTHETIC --target flair
    """
    settings = {"target": target, "raw": raw, "planes": ["axial"] if fast else None, "device": device}
    infer(ctx, SYNTH, ["inference"], studies, output_dir, settings, skip_existing, jobs, as_json)


@recoseg.command(cls=BundleCommand)
@role
@dataset
@output_dir
@click.option("--synth-checkpoint", type=PATH, help="Of the segmenter: the synthesizer's weights.")
@of_a_bundle()
@click.pass_context
def train(
    ctx: click.Context, role: str, dataset: Path, output_dir: Path, synth_checkpoint: Path | None, device: str | None
) -> None:
    """Train the synthesizer or the segmenter. The weights are OUTPUT_DIR/model.pt.

    \b
    Example:
      recoseg train synth BraTS2020_TrainingData -o runs/synth
      recoseg train seg BraTS2020_TrainingData -o runs/seg --synth-checkpoint runs/synth/model.pt
    """
    settings = {"synth_checkpoint": synth_checkpoint, "device": device}
    with redirect_stdout(sys.stderr):  # MONAI's handlers print their log
        run(ctx, ROLES[role], ["train"], [dataset], output_dir, settings)


@recoseg.command(cls=BundleCommand)
@role
@dataset
@output_dir
@click.option("--checkpoint", type=PATH, help="The weights.  [default: those of this package]")
@click.option("--synth-checkpoint", type=PATH, help="Of the segmenter: the synthesizer's weights.")
@of_a_bundle(as_json="Print the metrics as JSON.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    role: str,
    dataset: Path,
    output_dir: Path,
    checkpoint: Path | None,
    synth_checkpoint: Path | None,
    as_json: bool,
    device: str | None,
) -> None:
    """Compare with the masks or images of a dataset. The metrics are OUTPUT_DIR/metrics.json and metrics.csv.

    \b
    Example:
      recoseg evaluate seg BraTS2020_TrainingData -o metrics
      recoseg evaluate seg BraTS2020_TrainingData -o metrics --checkpoint runs/seg/model.pt -- --section validation
    """
    settings = {"checkpoint": checkpoint, "synth_checkpoint": synth_checkpoint, "device": device}
    with redirect_stdout(sys.stderr):  # MONAI's handlers print their log
        run(ctx, ROLES[role], ["inference", "evaluate"], [dataset], output_dir, settings)
    if as_json:
        click.echo((output_dir / "metrics.json").read_text(encoding="utf-8"))


@recoseg.command()
@dataset
@click.option(
    "--masks",
    type=click.Choice(["required", "optional", "none"]),
    default="optional",
    show_default=True,
    help="Whether each study must have a mask, or masks are ignored.",
)
@click.option("--label-scheme", default="auto", show_default=True, help="Meaning of mask values, such as brats2023.")
@click.option(
    "--modalities",
    type=click.Choice(["flair", "t1", "t2", "t1ce"]),
    multiple=True,
    default=("flair", "t1", "t2", "t1ce"),
    show_default=True,
    help="A modality that each study must have; may be repeated.",
)
@click.option("--datalist", type=PATH, help="A MONAI datalist: checks its studies, and for scans in two sections.")
@dicom_ids
@jobs
@click.option("--json", "as_json", is_flag=True, default=False, help="Print everything as JSON.")
def check(dataset: Path, **given: Any) -> None:
    """Read every study of a dataset, or one study. Prints what was found or what is wrong.

    Of a dataset, one table says what is wrong with each study and between studies: unusual sizes, and the same scan
    under another name. Exit status 1 if a study cannot be used or a scan is in two sections of the datalist.

    \b
    Example:
      recoseg check STUDY
      recoseg check BraTS2020_TrainingData --masks required --jobs 4
    """
    own("check", str(dataset), **given)


@recoseg.command()
@dataset
@output_dir
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Studies at a time.")
@dicom_ids
def prepare(dataset: Path, output_dir: Path, **given: Any) -> None:
    """Register, strip and align raw studies. The result is a dataset in BraTS layout.

    \b
    Example:
      recoseg prepare SCANS -o PREPARED --workers 2
    """
    own("prepare", str(dataset), str(output_dir), **given)


@recoseg.command(cls=BundleCommand)
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
@output_dir
@of_a_bundle(as_json="Print the comparison as JSON.")
@click.pass_context
def compare(ctx: click.Context, before: Path, after: Path, output_dir: Path, as_json: bool, device: str | None) -> None:
    """Compare two time points of one patient. Tells the change of each region.

    BEFORE and AFTER are folders of one study's results, such as RESULTS/ID, or studies, which are segmented first. Both
    are registered rigidly. comparison.html opens in any browser; comparison.json has the numbers.

    \b
    Example:
      recoseg compare RESULTS/BEFORE RESULTS/AFTER -o COMPARISON
      recoseg compare BEFORE AFTER -o COMPARISON
    """
    results, given = [], {}
    for name, place in (("before", before), ("after", after)):
        if any(place.glob("*_run.json")):
            results.append(place)
            continue
        if any(place.glob("*/*_run.json")):
            results.append(_only_results(place))
            continue
        study_id = _only_study(place)
        with redirect_stdout(sys.stderr):  # of the table of each
            run(ctx, SEG, ["inference"], [place], output_dir / name, {"device": device, "skip_existing": True})
        made = output_dir / name / study_id
        results.append(made if made.is_dir() else _only_results(output_dir / name))  # another id, by an option after --
        given[f"{name}_study"] = _absolute(place)
    own("compare", *map(str, (*results, output_dir)), as_json=as_json, **given)


def _only_study(place: Path) -> str:
    """Return the id of the only study in a place, before it is segmented."""
    with code_of_bundles():
        from custom.common.errors import BadInput
        from custom.data.datasets import find_studies

        found = find_studies(_absolute(place), modalities=(), masks="none", keep_broken=True, raw="auto")
        if len(found) != 1:
            raise BadInput(f"{place} has {len(found)} studies, expected one, or the results of one.")
    return str(found[0]["id"])


def _only_results(folder: Path) -> Path:
    """Return the folder of results of the only study in a folder of results."""
    with code_of_bundles():
        from custom.common.errors import BadInput

        found = [file.parent for file in folder.glob("*/*_run.json")]
        if len(found) != 1:
            raise BadInput(f"{folder} has the results of {len(found)} studies, expected those of one.")
    return found[0]


@recoseg.command()
@click.argument("results", type=PATH)
@click.argument("study", type=PATH)
def report(results: Path, study: Path) -> None:
    """Write the HTML report of a segmented study. Shows a mask that was edited.

    RESULTS is the folder of the study's results.

    \b
    Example:
      recoseg report RESULTS/ID STUDY
    """
    own("report", str(results), str(study))


@recoseg.command()
@click.argument("mask", type=PATH)
@click.argument("truth", type=PATH)
@click.option("--label-scheme", default="auto", show_default=True, help="Meaning of mask values, such as brats2023.")
def dice(mask: Path, truth: Path, **given: Any) -> None:
    """Compare a mask with the true one of its study. Prints Dice of each region.

    \b
    Example:
      recoseg dice RESULTS/ID/ID_seg.nii.gz TRUTH.nii.gz
    """
    own("dice", str(mask), str(truth), **given)


@recoseg.command()
@output_dir
def pack(output_dir: Path) -> None:
    """Pack both bundles as zips. They are for another hospital or a model zoo.

    \b
    Example:
      recoseg pack -o packed
    """
    own("pack", str(output_dir), str(BUNDLES))


@recoseg.command()
@output_dir
@click.option("--weights-url", help="Folder on the web with files above 25 MB, if there are some.")
def zoo(output_dir: Path, **given: Any) -> None:
    """Write what a pull request to MONAI's model zoo needs. Checks both bundles as the zoo does.

    \b
    Example:
      recoseg zoo -o zoo
    """
    own("zoo", str(output_dir), str(BUNDLES), **given)


@recoseg.command()
@click.argument("zip_file", type=PATH)
@click.option("--key", required=True, type=PATH, help="EC private key (PEM).")
@click.option("--certificate", type=PATH, help="The key's certificate, followed by those up to the root (PEM).")
def sign(zip_file: Path, **given: Any) -> None:
    """Sign a packed bundle; the signature is written beside it.

    \b
    Example:
      recoseg sign packed/recoseg_seg_v0.6.0.zip --key hospital.key
    """
    own("sign", str(zip_file), **given)


@recoseg.command()
@click.argument("zip_file", type=PATH)
@click.option("--public-key", type=PATH, help="The signer's EC public key (PEM).")
@click.option("--certificate", type=PATH, help="Instead of the public key, trusted certificates (PEM).")
@click.option("-o", "--output-dir", type=PATH, help="Unpack what was verified to a new folder in there.")
def verify(zip_file: Path, **given: Any) -> None:
    """Verify a packed bundle. Checks its signer, its integrity, and its configs and weights.

    \b
    Example:
      recoseg verify recoseg_seg_v0.6.0.zip --public-key hospital.pub -o received
    """
    own("verify", str(zip_file), **given)


@recoseg.command(cls=BundleCommand)
@click.option("-o", "--output-dir", type=PATH, default="demo", show_default=True, help="Folder of study and results.")
@of_a_bundle()
@click.pass_context
def demo(ctx: click.Context, output_dir: Path, device: str | None) -> None:
    """Segment a generated study, a digital phantom. Compares the mask with the truth.

    \b
    Example:
      recoseg demo
    """
    study, results = output_dir / "demo_000", output_dir / "results"
    if not study.is_dir():
        click.echo("Generating a study: ", nl=False)
        own("demo_study", str(output_dir))
    run(ctx, SEG, ["inference"], [study], results, {"report": True, "device": device})
    own("dice", str(results / "demo_000" / "demo_000_seg.nii.gz"), str(study / "demo_000_seg.nii.gz"))
    click.echo(f"Open in a browser: {(results / 'demo_000' / 'demo_000_report.html').absolute()}")


@recoseg.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(as_json: bool) -> None:
    """Say what this machine and installation can do. Also says what to do about what is wrong.

    Exit status 1 if something is wrong.

    \b
    Example:
      recoseg doctor
    """
    with code_of_bundles():
        from recoseg.doctor import examine

        found, wrong = examine()
    if as_json:
        click.echo(json.dumps({**found, "wrong": wrong}, indent=2))
    else:
        width = max(map(len, found))
        for name, value in found.items():
            click.echo(f"{name.ljust(width)}  {value}")
        for advice in wrong:
            click.echo(f"Wrong: {advice}")
        if not wrong:
            click.echo("Nothing is wrong.")
    sys.exit(1 if wrong else 0)


# ---- how the commands run


def infer(
    ctx: click.Context,
    bundle: Path,
    configs: Sequence[str],
    studies: Sequence[Path],
    output_dir: Path,
    settings: dict[str, Any],
    skip_existing: bool,
    jobs: int,
    as_json: bool,
) -> None:
    """Run an inference, in this process or distributed over ``jobs`` processes."""
    settings = {**settings, "skip_existing": skip_existing or None, "table#as_json": as_json or None}
    _check_places(studies, output_dir)
    if jobs > 1 and "LOCAL_RANK" not in os.environ:  # which torchrun sets: this is one of the processes
        if jobs > (cores := os.cpu_count() or 1):
            click.echo(f"Note: {cores} studies at a time in place of {jobs}: this machine has {cores} cores.", err=True)
        sys.exit(_distribute(min(jobs, cores)))
    run(ctx, bundle, configs, studies, output_dir, settings)


def _check_places(studies: Sequence[Path], output_dir: Path) -> None:
    """Refuse a folder that is not there, or not writable, before MONAI is imported; the run says the same later."""
    with code_of_bundles():
        from custom.common.atomic_files import require_writable
        from custom.common.folders import require_dataset

        if len(studies) == 1:  # of several, the others are done
            require_dataset(_absolute(studies[0]))
        require_writable(_absolute(output_dir))


def _absolute(place: Path) -> Path:
    """Return the absolute path of what a user has typed."""
    try:
        return place.absolute()
    except FileNotFoundError:
        raise click.UsageError("The working folder does not exist any more, expected one that does.") from None


def run(
    ctx: click.Context,
    bundle: Path,
    configs: Sequence[str],
    datasets: Sequence[Path],
    output_dir: Path,
    settings: dict[str, Any],
) -> None:
    """Run configs of a bundle as ``python -m monai.bundle run`` does, in this process."""
    words = arguments(bundle, configs, datasets, output_dir, settings) + ctx.meta[OPTIONS]
    if ctx.meta[VERBOSE]:
        click.echo(shlex.join(["python", "-m", "monai.bundle", *words]), err=True)
    warnings.filterwarnings("ignore", "parsing config_file", UserWarning)  # the config is of this package
    with code_of_bundles():
        _set_up_log_of_monai(ctx.meta[VERBOSE])
        sys.argv = ["monai.bundle", *words]
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


def arguments(
    bundle: Path, configs: Sequence[str], datasets: Sequence[Path], output_dir: Path, settings: dict[str, Any]
) -> list[str]:
    """Return the arguments of ``python -m monai.bundle`` for a run of configs; a setting that is None is left out.

    >>> arguments(Path("/b"), ["train"], [Path("/d")], Path("/o"), {"report": True, "raw": None})[5:]
    ['--dataset_dir', '/d', '--output_dir', '/o', '--logging_file', 'False', '--report', 'True']
    """
    places = [_as_word(_absolute(place)) for place in datasets]
    given = {
        "config_file": [str(bundle / "configs" / f"{name}.json") for name in configs],
        "bundle_root": bundle,
        "dataset_dir": places if len(places) > 1 else places[0],
        "output_dir": _absolute(output_dir),
        "logging_file": False,  # the log is that of this command
        **settings,
    }
    words = ((f"--{name}", _as_word(value)) for name, value in given.items() if value is not None)
    return ["run", *(word for pair in words for word in pair)]


def _as_word(value: Any) -> str:
    r"""Return a value as a word of MONAI's command line.

    In a text of a config, MONAI replaces # by ::, which separates its ids; an expression can have the path's own.

    >>> _as_word(Path("/a#b")), _as_word(Path("/a b"))
    ("$'/a\\x23b'", '/a b')
    """
    text = str(value)
    if not (isinstance(value, Path) and "#" in text):
        return text
    return "$" + repr(text).replace("#", r"\x23").replace("@", r"\x40")


def own(verb: str, *places: str, **options: Any) -> None:
    """Run a verb of ``python -m custom``, and print what it returns."""
    with code_of_bundles():
        from custom import __main__ as verbs

        given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        said = getattr(verbs, verb)(*places, **given)
        if said is not None:
            click.echo(said)


@contextmanager
def code_of_bundles() -> Iterator[None]:
    """Use the bundles' code; bad input ends the process with one sentence, and the status of ``python -m custom``."""
    use_custom()
    from custom.common.errors import find_bad_input

    try:
        yield
    except Exception as error:
        bad_input = find_bad_input(error)
        if bad_input is None:
            raise
        click.echo(f"Error: {bad_input}", err=True)
        if STATUS_FILE in os.environ:
            Path(os.environ[STATUS_FILE]).write_text(str(bad_input.status), encoding="utf-8")
        sys.exit(bad_input.status)


def _distribute(jobs: int) -> int:
    """Run this same command in ``jobs`` processes of torchrun, and return its exit status."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONSAFEPATH": "1"}  # custom is not that of this folder
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", str(jobs), "-m", "recoseg"]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "status"
        environment[STATUS_FILE] = str(told)
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        with subprocess.Popen([sys.executable, *launch, *sys.argv[1:]], env=environment) as processes:
            try:
                status = processes.wait()
            except KeyboardInterrupt:  # which a terminal sends to them, too
                with suppress(subprocess.TimeoutExpired):
                    processes.wait(SECONDS_TO_END)
                raise
            finally:
                processes.terminate()  # does nothing if they have ended
                processes.wait()
        return int(told.read_text(encoding="utf-8")) if status and told.is_file() else status


def _set_up_log(quiet: bool, verbose: bool) -> None:
    """Log to the standard error: the results are on the standard output."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=level)
    logging.getLogger("custom").setLevel(logging.WARNING if quiet else logging.INFO)
    if not verbose:  # ignite logs an error that is raised, and printed, anyway
        logging.getLogger("ignite.engine.engine").setLevel(logging.CRITICAL)


def _set_up_log_of_monai(verbose: bool) -> None:
    """Let MONAI's summary of a command line be part of the log, of a verbose one; it prints it by itself."""
    import monai.bundle  # sets up its loggers, which this changes

    for module in ("scripts", "workflows"):
        logger = logging.getLogger(f"{monai.bundle.__name__}.{module}")
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.INFO if verbose else logging.ERROR)


def main() -> None:
    """Run the command."""
    recoseg(prog_name="recoseg")
