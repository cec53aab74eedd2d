"""What a logging.conf may name."""

from __future__ import annotations

import io
import logging.config
from pathlib import Path

import pytest

from custom.sharing.check_logging import check_logging
from tests.studies import bad_input

REPOSITORY = Path(__file__).resolve().parents[2]
HONEST = (REPOSITORY / "bundles" / "recoseg_seg" / "configs" / "logging.conf").read_text()


@pytest.mark.parametrize("bundle", ["recoseg_synth", "recoseg_seg"])
def test_those_of_the_project_pass(bundle):
    check_logging(REPOSITORY / "bundles" / bundle / "configs" / "logging.conf", "configs/logging.conf")


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("class=StreamHandler", "class=eval", "eval"),
        ("class=StreamHandler", "class=logging.FileHandler", "FileHandler"),
        ("class=StreamHandler", "class=handlers.SocketHandler", "SocketHandler"),
        ("class=StreamHandler", "class=subprocess.Popen", "subprocess.Popen"),
        ("class=StreamHandler", "class=%(x)s", "%(x)s"),
        ("args=(sys.stdout,)", "args=(os.system('x'),)", "os.system"),
        ("args=(sys.stdout,)", "args=(sys.modules,)", "sys.modules"),
        ("args=(sys.stdout,)", "args=[sys.stdout][0]", "[0]"),
        ("args=(sys.stdout,)", "args=(sys.stdout,)\nkwargs={'a': eval('1')}", "kwargs"),
        ("[formatter_fullFormatter]", "[formatter_fullFormatter]\nclass=evil.Formatter", "evil.Formatter"),
        ("[formatter_fullFormatter]", "[formatter_fullFormatter]\ndefaults=eval('1')", "defaults"),
        ("[loggers]", "[DEFAULT]\nclass=evil.Formatter\n[loggers]", "evil.Formatter"),
        ("[loggers]", "keys=root\n[loggers]", "sections"),
        ("%(name)s", "\u00e9", "ASCII"),
        ("%(message)s", "%(message)1000000000s", "1000000000"),
        ("%(message)s", "%(message).1000000000s", "1000000000"),
        ("%(message)s", "%(process)d", "process"),
        ("%(message)s", "\x1b[2K%(message)s", "\\x1b"),
        ("level=INFO", "level=9999999999", "9999999999"),
    ],
)
def test_what_would_be_evaluated_is_refused_and_named(tmp_path, old, new, part):
    assert old in HONEST
    file = tmp_path / "logging.conf"
    file.write_text(HONEST.replace(old, new), encoding="utf-8")
    with bad_input("configs/logging.conf", part):
        check_logging(file, "configs/logging.conf")


def test_python_would_have_run_it(tmp_path):
    canary = tmp_path / "ran"
    text = HONEST.replace("(sys.stdout,)", f"(open({str(canary)!r}, 'w'),)")
    (tmp_path / "logging.conf").write_text(text)
    with bad_input("args"):
        check_logging(tmp_path / "logging.conf", "logging.conf")
    assert not canary.exists()
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        logging.config.fileConfig(io.StringIO(text), disable_existing_loggers=False)
    finally:
        logging.root.handlers[:], logging.root.level = handlers, level
    assert canary.exists()
