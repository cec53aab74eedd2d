"""The command `recoseg`: what it runs for what a user types, and how it ends."""

from __future__ import annotations

import inspect
import json
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import fire
import pytest
from click.testing import CliRunner
from monai.bundle import ConfigParser

from custom import __main__ as verbs
from custom.common.errors import BadInput, StudiesFailed
from custom.data.phantom import make_study
from recoseg import command_line
from recoseg.bundle import SEG, SYNTH, VERSION
from tests.inference.engines import rows_in
from tests.studies import write_study

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = command_line.recoseg.commands
OF_CUSTOM = ("check", "prepare", "report", "dice", "pack", "zoo", "sign", "verify")


@pytest.fixture(autouse=True)
def this_process(monkeypatch, tmp_path):
    """A command changes its process, which is here that of all tests. It finds three studies in its folder."""
    for name in ("study", "a", "study#1"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recoseg"])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    loggers = [logging.getLogger(name) for name in ("custom", "monai.bundle.scripts", "monai.bundle.workflows")]
    before = [(logger, logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:], logger.propagate = handlers, propagate


@pytest.fixture
def ran(monkeypatch):
    """The words that MONAI's command line got, of each run; nothing is run."""
    words = []
    monkeypatch.setattr(runpy, "run_module", lambda module, **_: words.append([module, *sys.argv[1:]]))
    return words


def call(*arguments, **options):
    return CliRunner().invoke(command_line.recoseg, [*map(str, arguments)], prog_name="recoseg", **options)


def ended():
    """A process that has ended with status 1."""
    process = MagicMock()
    process.__enter__.return_value.wait.return_value = 1
    return process


def settings(words):
    """Return option -> value of a run of a bundle, without the options that every run has."""
    assert words[:2] == ["monai.bundle", "run"]
    names, values = words[2::2], words[3::2]
    given = {name.removeprefix("--"): value for name, value in zip(names, values, strict=True)}
    assert given.pop("logging_file") == "False"
    return given


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(name):
    result = call(name, "--help")
    assert result.exit_code == 0
    example = result.output.split("Example:\n")[1].splitlines()[0]
    assert example.startswith(f"    recoseg {name}")


def test_help_waits_for_nothing_that_is_slow_to_import():
    code = "import sys, recoseg.command_line; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "monai", "numpy", "nibabel", "fire", "custom"} & set(result.stdout.split())


def test_the_version_is_that_of_the_bundles():
    assert call("--version").output == f"recoseg, version {VERSION}\n"


def test_segment_runs_the_segmenter_with_a_report(ran, tmp_path):
    assert call("segment", tmp_path / "study", "-o", tmp_path / "out").exit_code == 0
    assert [settings(words) for words in ran] == [
        {
            "config_file": str([str(SEG / "configs" / "inference.json")]),
            "bundle_root": str(SEG),
            "dataset_dir": str(tmp_path / "study"),
            "output_dir": str(tmp_path / "out"),
            "report": "True",
        }
    ]


def test_paths_are_those_of_the_working_folder_and_never_numbers(ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("segment", "20230101", "1e5", "-o", "7")
    given = settings(ran[0])
    assert given["dataset_dir"] == str([str(tmp_path / "20230101"), str(tmp_path / "1e5")])
    assert given["output_dir"] == str(tmp_path / "7")


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--raw"], "raw", "True"),
        (["--no-raw"], "raw", "False"),
        (["--fast"], "planes", "['axial']"),
        (["--fast"], "fine_pass", "False"),
        (["--no-report"], "report", "False"),
        (["--skip-existing"], "skip_existing", "True"),
        (["--device", "cpu"], "device", "cpu"),
        (["--json"], "table#as_json", "True"),
    ],
)
def test_options_of_segment_are_options_of_the_config(ran, words, name, value):
    call("segment", "study", "-o", "out", *words)
    assert settings(ran[0])[name] == value


def test_the_whole_tumour_alone_is_the_variant(ran):
    call("segment", "study", "-o", "out", "--regions", "wt")
    assert "variants/whole_tumour.json" in settings(ran[0])["config_file"]


@pytest.mark.parametrize("jobs", [[], ["--jobs", "2"]])
def test_places_that_cannot_be_used_are_refused_before_anything_slow_is_imported(tmp_path, jobs):
    (tmp_path / "file").touch()
    for study, output, said in (("none", "out", "none does not exist"), ("file", "file", "not a folder")):
        code = (
            "import sys, atexit; atexit.register(lambda: print(*sys.modules));"
            f"sys.argv = {['recoseg', 'segment', str(tmp_path / study), '-o', str(tmp_path / output), *jobs]!r};"
            "from recoseg.command_line import main; main()"
        )
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2
        assert said in result.stderr and len(result.stderr.splitlines()) == 1
        assert not {"torch", "monai", "nibabel"} & set(result.stdout.split())


def test_what_follows_two_dashes_is_passed_on(ran):
    call("segment", "study", "-o", "out", "--", "--threshold", "0.3", "--planes", "['axial']")
    assert ran[0][-4:] == ["--threshold", "0.3", "--planes", "['axial']"]
    assert settings(ran[0])["dataset_dir"] == str(Path("study").absolute())


def test_verbose_prints_the_command_line_of_monai(ran):
    result = call("segment", "study", "-o", "out", "--verbose")
    assert result.stderr.startswith("python -m monai.bundle run --config_file ")


def test_the_others_run_their_bundles(ran):
    call("synthesize", "study", "-o", "out", "--target", "flair")
    call("train", "synth", "data", "-o", "runs")
    call("evaluate", "seg", "data", "-o", "metrics", "--checkpoint", "model.pt", "--", "--section", "validation")
    synthesized, trained, evaluated = map(settings, ran)
    assert (synthesized["bundle_root"], synthesized["target"]) == (str(SYNTH), "flair")
    assert trained["config_file"] == str([str(SYNTH / "configs" / "train.json")])
    assert evaluated["config_file"] == str(
        [str(SEG / "configs" / f"{name}.json") for name in ("inference", "evaluate")]
    )
    assert (evaluated["checkpoint"], evaluated["section"]) == ("model.pt", "validation")


def test_evaluate_prints_its_metrics_and_no_log(monkeypatch, tmp_path):
    monkeypatch.setattr(runpy, "run_module", lambda *_, **__: print("Epoch[1]"))
    (tmp_path / "metrics.json").write_text('{"mean": {"dice_wt": 0.5}}')
    result = call("evaluate", "seg", "data", "-o", tmp_path, "--json")
    assert json.loads(result.stdout) == {"mean": {"dice_wt": 0.5}}
    assert "Epoch[1]" in result.stderr


def test_jobs_are_processes_of_torchrun_that_run_the_same_command(ran, monkeypatch):
    started = []

    def start(words, env):
        started.append((words, env))
        return ended()

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(sys, "argv", ["recoseg", "segment", "a", "-o", "out", "--jobs", "2"])
    assert call("segment", "a", "-o", "out", "--jobs", 2).exit_code == 1
    ((words, environment),) = started
    assert words[1:5] == ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
    assert words[5:] == ["-m", "recoseg", *sys.argv[1:]]
    assert environment["PYTHONSAFEPATH"] == "1"
    assert ran == []
    monkeypatch.setenv("LOCAL_RANK", "0")  # in one of those processes
    call("segment", "a", "-o", "out", "--jobs", 2)
    assert len(started) == len(ran) == 1


def test_not_more_processes_than_cores_are_started(monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, env: started.append(words) or ended())
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    result = call("segment", "a", "-o", "out", "--jobs", 999)
    assert started[0][4] == "3"
    assert "3 studies at a time in place of 999" in result.stderr


def test_a_path_with_a_separator_of_monai_s_ids_reaches_the_config_as_it_is(ran, tmp_path):
    for studies in (["study#1"], ["study#1@2", "b'#"]):
        call("segment", *studies, "-o", "out#2")
        parser = ConfigParser(fire.Fire(lambda **options: options, command=ran[-1][2:]))
        places = [str(tmp_path / study) for study in studies]
        assert parser.get_parsed_content("dataset_dir") == (places if len(places) > 1 else places[0])
        assert parser.get_parsed_content("output_dir") == str(tmp_path / "out#2")


def test_an_empty_path_is_not_the_working_folder(ran):
    """So is a variable of a shell that has no value."""
    for words in (["segment", "", "-o", "out"], ["segment", "study", "-o", ""], ["check", ""], ["compare", "", "a"]):
        result = call(*words)
        assert result.exit_code == 2 and "the path has the value '', expected a file or a folder" in result.output
    result = call("segment", "study", "-o", f"out/{'a' * 256}")
    assert result.exit_code == 2 and "255 bytes" in result.output
    assert ran == []


@pytest.mark.parametrize("place", ["~nobody-of-this-name/study", "~nobody-of-this-name"])
def test_a_home_that_is_not_there_is_told(ran, place):
    for words in ([place, "-o", "out"], ["study", "-o", place]):
        result = call("segment", *words)
        assert result.exit_code == 2
        assert f"the path is {place}, expected the name of a user after ~" in result.output.replace("\n", " ")
    assert ran == []


def test_a_folder_whose_name_begins_with_a_tilde_is_not_the_home_folder(ran, tmp_path):
    (tmp_path / "~" / "study").mkdir(parents=True)
    result = call("segment", "./~/study", "-o", "./~out")
    assert result.exit_code == 0, result.output
    (words,) = ran
    places = [words[words.index(option) + 1] for option in ("--dataset_dir", "--output_dir")]
    assert places == [str(tmp_path / "~" / "study"), str(tmp_path / "~out")]


def test_a_working_folder_that_is_gone_is_told(ran, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = call("segment", "study", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "does not exist any more" in result.output


def test_bad_input_is_one_sentence_and_status_2(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("applying transform failed") from BadInput("study has no t1, expected one.")

    monkeypatch.setattr(runpy, "run_module", refuse)
    result = call("segment", "study", "-o", "out")
    assert (result.exit_code, result.output) == (2, "Error: study has no t1, expected one.\n")


def test_some_failed_studies_are_status_1(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise StudiesFailed("1 of 2 studies failed.")

    monkeypatch.setattr(runpy, "run_module", fail)
    result = call("segment", "study", "-o", "out")
    assert (result.exit_code, result.output) == (1, "Error: 1 of 2 studies failed.\n")
    write_study(tmp_path, "study1")
    (write_study(tmp_path, "study2") / "study2_t2.nii.gz").unlink()
    assert call("check", tmp_path).exit_code == 1


def test_the_status_of_a_process_of_torchrun_is_that_of_the_command(monkeypatch):
    def start(words, env):
        Path(env[command_line.STATUS_FILE]).write_text("2")
        return ended()

    monkeypatch.setattr(subprocess, "Popen", start)
    assert call("segment", "a", "-o", "out", "--jobs", 2).exit_code == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_processes_end_with_the_command(tmp_path, number):
    python = tmp_path / "python"  # in place of torchrun
    python.write_text("#!/bin/sh\nsleep 0.5\necho $$\nexec sleep 60")
    python.chmod(0o755)
    code = "import signal, sys; from recoseg import command_line; sys.executable = sys.argv[1]\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background ignores it
    code += "command_line.SECONDS_TO_END = 0.1; sys.exit(command_line._distribute(2))"
    with subprocess.Popen([sys.executable, "-c", code, python], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(timeout=30) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_any_other_failure_is_status_1(monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(runpy, "run_module", fail)
    result = call("segment", "study", "-o", "out")
    assert result.exit_code == 1
    assert isinstance(result.exception, MemoryError)


@pytest.mark.parametrize(
    "words", [["segment", "study"], ["segment", "-o", "out"], ["train", "both", "data", "-o", "a"]]
)
def test_wrong_use_is_status_2(words):
    assert call(*words).exit_code == 2


@pytest.mark.parametrize("words", [["--report", "true", "false"], ["--raw", "False"], ["--skip_existing", "true"]])
def test_a_value_after_a_flag_is_no_study(ran, words):
    result = call("segment", "a", "-o", "b", *words)
    assert result.exit_code == 2 and not ran
    assert f"Option '{words[0]}' does not take a value, but got '{words[1]}'." in result.output


# ---- the verbs of python -m custom


def test_an_option_of_the_config_in_the_wrong_place_is_told_where_to_go(ran):
    result = call("segment", "a", "-o", "b", "--threshold", "0.3")
    assert result.exit_code == 2 and "follow after --." in result.output
    result = call("segment", "a", "-o", "b", "--fats")
    assert "'--fast'?" in result.output and "follow after --." in result.output
    assert "'--help'?" not in call("segment", "a", "-o", "b", "--thresold", "0.3").output


def test_an_option_is_taken_as_messages_and_monai_write_it(ran, tmp_path):
    """Messages of the bundles ask for an --output_dir elsewhere, and also a user of this command reads them."""
    assert call("segment", "a", "--output_dir", "b", "--skip_existing").exit_code == 0
    assert settings(ran[0])["output_dir"] == str(tmp_path / "b") and settings(ran[0])["skip_existing"] == "True"


def test_help_tells_how_options_are_completed():
    assert "_RECOSEG_COMPLETE=bash_source recoseg" in call("--help").output


@pytest.mark.parametrize(
    "words",
    [
        *(["threshold", "0.3"], ["--threshold", "0.3", "0.4"], ["--flip=true", "x"]),
        *(["--"], ["-"], ["--seed", "1", "--", "--flip"], ["--=3"], ["-1"]),
    ],
)
def test_what_is_no_option_of_the_config_is_refused(ran, words):
    """MONAI would take it for the name of what to run, and do nothing."""
    result = call("segment", "a", "-o", "b", "--", *words)
    assert result.exit_code == 2 and "expected options such as" in result.output
    assert ran == []


def test_the_shell_s_completion_goes_on_after_words_that_are_no_options(monkeypatch):
    monkeypatch.setenv("_RECOSEG_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "recoseg segment a -- x --fa")
    monkeypatch.setenv("COMP_CWORD", "5")
    result = call()
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Error" not in result.output


def test_no_line_of_help_is_cut_off():
    assert "..." not in call("--help").output.split("Commands:")[1]


@pytest.mark.parametrize("name", OF_CUSTOM)
def test_a_verb_of_custom_has_its_options_and_defaults(name):
    takes = inspect.signature(getattr(verbs, name)).parameters
    own = {parameter.name: parameter for parameter in COMMANDS[name].params}
    names = {"dataset": "dataset_dir", "results": "results_dir"}
    assert {names.get(each, each) for each in own} <= set(takes)
    defaults = {each: takes[each].default for each in takes if takes[each].default not in (None, inspect._empty)}
    assert {each: own[each].default for each in defaults if each in own} == {
        each: default for each, default in defaults.items() if each in own
    }


def test_check_says_what_the_verb_says(tmp_path):
    write_study(tmp_path, "study1")
    result = call("check", tmp_path)
    assert result.exit_code == 0, result.output
    assert "study1: flair, t1, t2, t1ce" in result.stdout


def test_check_of_nothing_is_one_sentence_and_status_2(tmp_path):
    result = call("check", tmp_path / "nowhere")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_compare_takes_results_as_they_are_and_segments_studies(ran, monkeypatch, tmp_path):
    results = tmp_path / "visit_1"
    results.mkdir()
    (results / "visit_1_run.json").touch()
    study = write_study(tmp_path, "late")
    for former in ("late", "other"):  # the latter is of another comparison in this folder
        segmented = tmp_path / "out" / "after" / former
        segmented.mkdir(parents=True)
        (segmented / f"{former}_run.json").touch()
    compared = []
    monkeypatch.setattr(verbs, "compare", lambda *places, **options: compared.append((places, options)))
    result = call("compare", results, tmp_path / "late", "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    assert [settings(words)["output_dir"] for words in ran] == [str(tmp_path / "out" / "after")]
    assert settings(ran[0])["skip_existing"] == "True"
    segmented = tmp_path / "out" / "after" / "late"
    options = {"as_json": True, "after_study": str(study)}
    assert compared == [((str(results), str(segmented), str(tmp_path / "out")), options)]


@pytest.mark.parametrize("studies", [["one"], ["one", "other"]])
def test_compare_takes_a_folder_with_the_results_of_one_study_only(ran, monkeypatch, tmp_path, studies):
    for study in studies:
        folder = tmp_path / "results" / study
        folder.mkdir(parents=True)
        (folder / f"{study}_run.json").touch()
    compared = []
    monkeypatch.setattr(verbs, "compare", lambda *places, **_: compared.append(places))
    result = call("compare", tmp_path / "results", tmp_path / "results" / "one", "-o", tmp_path / "out")
    assert not ran  # nothing is segmented
    if len(studies) == 1:
        assert result.exit_code == 0, result.output
        assert compared == [(str(folder), str(folder), str(tmp_path / "out"))]
    else:
        assert result.exit_code == 2 and "results of 2 studies, expected those of one" in result.output


def test_compare_of_something_with_several_studies_is_refused_before_they_are_segmented(ran, tmp_path):
    for name in ("one", "other"):
        write_study(tmp_path / "studies", name)
    result = call("compare", tmp_path / "studies", tmp_path / "visit_2", "-o", tmp_path / "out")
    assert result.exit_code == 2 and "studies has 2 studies, expected one" in result.output
    assert ran == []


@pytest.mark.slow
def test_pack_writes_both_bundles_of_the_package(tmp_path):
    result = call("pack", "-o", tmp_path / "packed")
    assert result.exit_code == 0, result.output
    assert {file.name for file in (tmp_path / "packed").iterdir()} == {
        f"{each.name}_v{VERSION}.zip" for each in (SEG, SYNTH)
    }


@pytest.mark.slow
def test_two_jobs_share_the_studies_and_leave_one_list_with_the_one_that_is_broken(tmp_path):
    for seed in range(2):
        make_study(tmp_path, f"phantom_{seed}", seed, shape=(60, 60, 40), spacing=(4, 4, 4))
    broken = shutil.copytree(tmp_path / "phantom_0", tmp_path / "broken") / "phantom_0_t2.nii.gz"
    broken.write_bytes(broken.read_bytes()[:3000])  # its header is whole
    for file in broken.parent.iterdir():
        file.rename(file.with_name(file.name.replace("phantom_0", "broken")))
    studies = ("broken", "phantom_0", "phantom_1")
    words = ["segment", *studies, "-o", "out", "--jobs", "2", "--json", "--no-report"]
    result = subprocess.run(
        [sys.executable, "-m", "recoseg", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 1, result.stderr
    expected = dict(zip(studies, ("failed", "done", "done"), strict=True))
    assert {row["id"]: row["status"] for row in json.loads(result.stdout)} == expected
    assert {name: row["status"] for name, row in rows_in(tmp_path / "out").items()} == expected
    assert {file.name for file in (tmp_path / "out").iterdir()} == {*studies[1:], "results.csv", "statistics.json"}
    assert result.stderr.count("Error: 1 of 3 studies failed, the first of them broken (broken_t2.nii.gz ") == 1
    assert "eval()" not in result.stderr  # MONAI's warning that a config is code: this one is the package's own
