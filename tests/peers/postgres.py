"""A PostgreSQL server for tests, on a Unix socket and on loopback, in a directory of its own that goes when it stops.

`python3 postgres.py --installed` tells by its exit status whether it can. `python3 postgres.py -- COMMAND...` runs a command with
`DURWARD_TEST_POSTGRES` naming the socket's directory. The binaries are Debian's (`postgresql`). It does not sync to disk: no test here
crashes the server.
"""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path


def binaries():
    """The directory of `initdb` and `postgres`; none: they are not installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    return Path(found[-1]).parent if found else None


class Postgres:
    """A server that accepts connections once it is made. Only the socket lets in without a password; loopback asks `durward` for one."""

    password = "s3cret-of-the-database"

    def __init__(self, port=5432):
        self.port = port
        self.bin = binaries()
        # Not below a test's directory: the path of a socket is at most 107 bytes, and the server does not run as root.
        self.directory = Path(tempfile.mkdtemp(prefix="durward-pg-"))
        self.directory.chmod(0o755)
        self.data = self.directory / "data"
        self.data.mkdir()
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            os.chown(self.data, user.pw_uid, user.pw_gid)
        try:
            self.run("initdb", "-D", self.data, "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256", "-N")
            self.start()
            self.sql(f"CREATE ROLE durward LOGIN PASSWORD '{self.password}'")
        except Exception:
            self.stop()
            raise

    def run(self, program, *arguments):
        command = [str(self.bin / program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # A daemon keeps what it inherits: not the caller's pipes.
        with (self.directory / f"{program}.out").open("wb") as out:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/")
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{(self.directory / f'{program}.out').read_text()[-2000:]}")

    def sql(self, text, database="postgres"):
        """The rows, as `psql` prints them bare."""
        command = [self.bin / "psql", "-h", self.directory, "-p", str(self.port), "-U", "postgres", "-d", database, "-qAt", "-c", text]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()

    def start(self):
        options = f"-k {self.directory} -h 127.0.0.1 -p {self.port} -c fsync=off -c max_connections=500"
        self.run("pg_ctl", "-D", self.data, "-l", self.directory / "log", "-w", "-o", options, "start")

    def speak_tls(self, certificate, key):
        """From now on, to those who want it."""
        for kind, file in [("cert", certificate), ("key", key)]:
            mine = self.directory / f"server.{kind}"
            shutil.copy(file, mine)
            mine.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(mine, self.directory.stat().st_uid, -1)
            self.sql(f"ALTER SYSTEM SET ssl_{kind}_file = '{mine}'")
        self.sql("ALTER SYSTEM SET ssl = on")
        self.halt()
        self.start()

    def freeze(self):
        """Connections stay, and nothing responds."""
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def signal(self, number):
        master = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        for task in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(task.read_text().rsplit(")", 1)[1].split()[1])
                if master in (parent, int(task.parent.name)):
                    os.kill(int(task.parent.name), number)
            except (OSError, ProcessLookupError):
                continue

    def halt(self, mode="fast"):
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def stop(self):
        if (self.data / "postmaster.pid").exists():
            self.halt("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def main(arguments):
    if arguments == ["--installed"]:
        return int(binaries() is None)
    if not arguments or arguments[0] != "--":
        sys.exit("usage: postgres.py --installed | -- COMMAND...")
    if binaries() is None:
        sys.exit("no PostgreSQL below /usr/lib/postgresql (apt-get install postgresql)")
    with Postgres() as server:
        environment = {
            **os.environ, "DURWARD_TEST_POSTGRES": str(server.directory), "PATH": f"{server.bin}:{os.environ['PATH']}",
        }
        return subprocess.run(arguments[1:], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
