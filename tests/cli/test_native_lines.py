"""What native code writes to stderr arrives, but for what libraries say of themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bulk_inferencer.cli.native_lines import is_about_itself

WRITE = """
import os, subprocess, sys
from bulk_inferencer.cli.native_lines import filter_stderr

filter_stderr()
print("from Python", file=sys.stderr)
lines = [
    "2026-01-31 12:00:00.123456: E external/local_xla/xla/cuda_fft.cc:479] Unable to register",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1700000000.123456 4242 port.cc:153] oneDNN custom operations are on.",
    "from C",
    "F0000 00:00:1700000000.123456 4242 check.cc:1] Check failed: the last words",
    "without an end",
]
os.write(2, "\\n".join(lines).encode())
subprocess.run([sys.executable, "-c", "import os; os.write(2, b' and from a child\\\\n')"])
{end}
"""


@pytest.mark.parametrize("end", ["", "os.abort()"])
def test_last_words_of_a_process_arrive(end):
    command = [sys.executable, "-c", WRITE.format(end=end)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = said.stderr.splitlines()
    assert sorted(lines) == [
        "F0000 00:00:1700000000.123456 4242 check.cc:1] Check failed: the last words",
        "from C",
        "from Python",
        "without an end and from a child",
    ]
    assert said.returncode == (-6 if end else 0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"2026-01-31 12:00:00.123456: I tensorflow/core/util/port.cc:113] oneDNN", True),
        (b"2026-01-31 12:00:00.123456: F tensorflow/core/platform/x.cc:1] Check failed", False),
        (b"W0000 00:00:1700000000.1 4242 gpu_device.cc:1] Cannot dlopen", True),
        (b"E1231 23:59:59.123456 77 tcp.cc:1] connection refused", True),
        (b"To enable the following instructions: AVX2 FMA", True),
        (b"26/01/31 12:00:00 WARN Utils: Your hostname resolves to a loopback address", True),
        (b"26/01/31 12:00:00 ERROR TaskSchedulerImpl: Lost executor 1", False),
        (b'Setting Spark log level to "ERROR".', True),
        (b"To adjust logging level use sc.setLogLevel(newLevel).", True),
        (b"W1 of the layer is zero", False),
        (b"Segmentation fault", False),
    ],
)
def test_lines_of_libraries_are_told_apart_from_others(line, expected):
    assert is_about_itself(line) == expected


KEEP = """
import os, subprocess, sys
from bulk_inferencer.cli.native_lines import keep_stdout

keep_stdout()
print("a result")
os.write(1, b"from C\\n")
subprocess.run([sys.executable, "-c", "print('from a child')"])
"""


def test_stdout_holds_results_alone():
    said = subprocess.run([sys.executable, "-c", KEEP], capture_output=True, text=True, check=True)
    assert (said.stdout, said.stderr) == ("a result\n", "from C\nfrom a child\n")
