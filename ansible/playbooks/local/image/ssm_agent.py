"""Run what Run Command has for this host: the SSM agent of an instance on one machine.

It knows no credentials: the API knows the host by its address, as the metadata service does.

Usage: ssm_agent.py URL
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

TOKEN_SECONDS = 3600
# Longer than the API holds a question for which it has no work.
ANSWER_SECONDS = 60


def call(method: str, url: str, body: bytes | None = None, **headers: str) -> bytes:
    """Send one request; its answer."""
    fields = {
        f"X-aws-ec2-metadata-{name.replace('_', '-')}": text for name, text in headers.items()
    }
    request = urllib.request.Request(url, body, fields, method=method)
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        content: bytes = answer.read()
        return content


def run(script: str, seconds: float) -> dict[str, object]:
    """Run a script as root, and whatever it starts no longer than so many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "_script.sh"
        file.write_text(script)
        process = subprocess.Popen(
            ["/bin/sh", str(file)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        timed_out = False
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
    return {
        "exit_code": process.returncode,
        "stdout": stdout,
        "stderr": stderr,
        "timed_out": timed_out,
    }


def main() -> None:
    url = sys.argv[1].rstrip("/")
    token, renewed = "", 0.0
    while True:
        try:
            if not token or time.monotonic() - renewed > TOKEN_SECONDS / 2:
                token = call(
                    "PUT", f"{url}/latest/api/token", token_ttl_seconds=str(TOKEN_SECONDS)
                ).decode()
                renewed = time.monotonic()
            work = call("GET", f"{url}/latest/run-command", token=token)
            if work:
                command = json.loads(work)
                its = f"{url}/latest/run-command/{command['command_id']}"
                call("POST", its, token=token)
                print(f"running {command['command_id']}", flush=True)
                result = run(command["script"], command["seconds"])
                call("PUT", its, json.dumps(result).encode(), token=token)
        except OSError as error:
            # The API is away, or does not know this host yet; both end.
            print(error, file=sys.stderr, flush=True)
            token = ""
            time.sleep(2)


if __name__ == "__main__":
    main()
