"""The commands as processes: closed pipes, exit codes, and the address of the wrong front end."""

import os
import subprocess

import pytest

from conftest import GATEWAY_URL, TEST_DIRECTORY
from test_gateway import clean_environment

pytestmark = pytest.mark.gateway
DURWARD = os.environ.get("DURWARD_BIN", "durward")


def run(*words):
    return subprocess.run([DURWARD, *words], env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)


def unread(*words, which):
    """Runs a command with one of its outputs closed. Returns its exit code and the other output."""
    ours, its = os.pipe()
    os.close(ours)
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, which: its}
    try:
        done = subprocess.run([DURWARD, *words], env=clean_environment(), text=True, timeout=60, check=False, **outputs)
    finally:
        os.close(its)
    return done.returncode, done.stdout or done.stderr or ""


@pytest.mark.parametrize("words", [["catalog", "search", "delete"], ["catalog", "show", "s3:DeleteObject", "--json"]], ids=" ".join)
def test_a_reader_that_stops_ends_the_command_without_a_word(words):
    assert unread(*words, which="stdout") == (141, "")


def test_an_error_into_a_closed_pipe_is_no_crash():
    assert unread("approvals", "ls", "--url", "http://durward.example.com", which="stderr") == (1, "")


@pytest.mark.parametrize("words", [["journal", "verify"], ["sessions", "ls", "--json"]], ids=" ".join)
def test_a_directory_without_a_journal_is_not_a_broken_one(tmp_path, words):
    for place in (tmp_path, tmp_path / "none"):
        done = run(*words, "--dir", place)
        assert (done.returncode, done.stdout) == (2, "")
        assert "there is no journal" in done.stderr and "CORRUPT" not in done.stderr


def test_the_aws_front_end_is_not_taken_for_the_console():
    done = run("approvals", "ls", "--url", GATEWAY_URL, "--token-file", str(TEST_DIRECTORY / "agent.jwt"))
    assert done.returncode == 1 and done.stdout == ""
    assert "this is the AWS front end, not the console" in done.stderr and "[listen] console" in done.stderr
    assert "durward: durward:" not in done.stderr
